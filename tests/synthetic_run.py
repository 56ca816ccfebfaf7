"""A run folder as the pipeline writes it, with drawn faces and invented but plausible scores."""

import json
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from iddmbench.adaptive import links_people, parse, roots
from iddmbench.results.run_folder import CONFIG, ENVIRONMENT, SCHEMA, TABLES, label, make_table, table_file

PROMPTS = ("a photo of sks person", "a photo of sks person, facing left", "a bright photo of sks person")
LEAK = {None: 0.96, 0.25: 0.8, 0.5: 0.5, 1.0: 0.12}
QUALITY = {None: 1.0, 0.25: 0.96, 0.5: 0.88, 1.0: 0.71}
THRESHOLD = {"1e-2": 0.42, "1e-3": 0.55}
IDENTITIES = 40


GROUP_COLUMNS = ("attacker", "threat", "metric", "value", "low", "high", "images", "by")


def write_run(
    path: Path,
    defenses: tuple[str, ...] = ("iddm",),
    strengths: tuple[float, ...] = (0.25, 0.5, 1.0),
    subjects: tuple[str, ...] = ("s29", "s30", "s31", "s32"),
    attackers: tuple[str, ...] = ("dlib", "sface"),
    white_box: tuple[str, ...] = ("sface",),
    per_prompt: int = 4,
    failed: tuple[tuple[str, float | None, str], ...] = (),
    error: str = "RuntimeError: out of memory",
    prompts: tuple[str, ...] = PROMPTS,
    notes: tuple[str, ...] = ("iddm: IDDM (our reconstruction from the abstract)",),
    seed: int = 0,
    vary: bool = False,
) -> Path:
    """Write a finished run; `failed` lists (defense, strength, subject) of the cells that did not finish.

    vary: each defense has its own leak and quality, instead of all the same.
    """
    rng = np.random.default_rng(seed)
    tables: dict[str, list[dict]] = {name: [] for name in TABLES}
    conditions = [("none", None), ("generic", None), *((d, s) for d in defenses for s in strengths)]
    path.mkdir(parents=True, exist_ok=True)
    for subject in subjects:
        save_faces(path / "references" / subject, 4, subject, 1.0, rng)
    for defense, strength in conditions:
        for subject in subjects:
            identity = {
                "cell": f"{defense}{strength}{subject}",
                "subject": subject,
                "defense": defense,
                "strength": math.nan if strength is None else strength,
                "seed": 0,
            }
            cell = {**identity, "dataset": "orl", "base": "micro", "cached": False, "error": "", "status": "ok"}
            if (defense, strength, subject) in failed:
                tables["cells"].append({**cell, "status": "failed", "error": error})
                continue
            seconds = {"seconds": 33.0, "seconds_personalize": 21.0, "seconds_generate": 9.0, "seconds_embed": 3.0}
            tables["cells"].append({**cell, **seconds})
            quality = 0.9 if defense == "generic" else quality_of(defense, strength, vary)
            folder = Path("images", label(defense, strength), subject)
            save_faces(path / folder, per_prompt * len(prompts), subject, quality, rng, defense == "generic")
            if strength is not None:
                extra = path / "extras" / label(defense, strength) / subject / "decoupled references"
                save_faces(extra, 4, subject, quality, rng)
            for i in range(per_prompt * len(prompts)):
                image = {**identity, "prompt": prompts[i // per_prompt], "index": i % per_prompt}
                image["image"] = str(folder / f"{i:02d}.png")
                detected = bool(rng.random() < 0.5 + quality / 2)
                tables["images"].append({**image, "detected": detected, **utility_scores(quality, detected, rng)})
                tables["probes"] += [
                    {**image, **probe(defense, strength, a, white_box, detected, rng, vary)} for a in attackers
                ]
    for attacker in [a for a in attackers if parse(a) is None]:
        tables["calibration"] += [calibration(attacker, far, tau) for far, tau in THRESHOLD.items()]
    images, probes = (make_table(name, tables[name]) for name in ("images", "probes"))
    for defense, strength in conditions:
        tables["summary"] += summarize(defense, strength, images, probes, attackers, white_box, failed, vary)
    tables["demographics"] = [
        {**group, **{key: row[key] for key in ("defense", "strength", *GROUP_COLUMNS)}, "subjects": len(subjects) // 2}
        for row in tables["summary"]
        if row["policy"] in ("headline", "") and row["metric"] in ("r1u", "rank1_hit", "face_detection_rate")
        for group in ({"trait": "sex", "group": "female"}, {"trait": "sex", "group": "male"})
    ]
    config = {
        "schema": SCHEMA,
        "iddmbench": "0.1.0",
        "protocol": {"version": "1", "hash": "5d41402abc4b2a76b9719d911017c592"},
        "dataset": "orl",
        "dataset_options": {},
        "base": "micro",
        "personalizer": "lora",
        "defense": ", ".join(defenses),
        "defenses": list(defenses),
        "defense_options": {"rounds": "6"},
        "strengths": list(strengths),
        "subjects": list(subjects),
        "seeds": [0],
        "attackers": list(attackers),
        "anchors": True,
        "images_per_prompt": per_prompt,
        "prompts": list(prompts),
        "lora": {"rank": 16, "steps": 150, "learning_rate": 1e-3, "targets": ["to_q", "to_k"]},
        "sampling": {"steps": 15, "guidance": 2.0},
        "notes": list(notes),
    }
    packages = {"torch": "2.9.0", "diffusers": "0.35.1", "opencv-python-headless": "4.12.0.88", "numpy": "2.3.1"}
    environment = {"python": "3.11.7", "platform": "Linux-6.1-x86_64", "processor": "example", "cpu_count": 2}
    (path / CONFIG).write_text(json.dumps(config), encoding="utf-8")
    (path / ENVIRONMENT).write_text(json.dumps({**environment, "gpu": None, "packages": packages}), encoding="utf-8")
    for name, rows in tables.items():
        make_table(name, rows).to_parquet(path / table_file(name), index=False)
    return path


def leak_of(defense: str, strength: float | None, vary: bool) -> float:
    plain = 0.02 if defense == "generic" else LEAK.get(strength, 0.5)
    return plain ** (0.05 + len(defense) % 6 / 4) if vary and strength else plain


def quality_of(defense: str, strength: float | None, vary: bool) -> float:
    plain = QUALITY.get(strength, 0.8)
    return max(0.0, 1 - (1 - plain) * (0.05 + sum(defense.encode()) % 8 / 2)) if vary and strength else plain


def threat_of(attacker: str, white_box: tuple[str, ...], strength: float | None) -> str:
    known = strength is not None and bool({*white_box} & {*roots(attacker)})
    if parse(attacker) is None:
        return "white-box" if known else "transfer"
    return "adaptive white-box" if known else "adaptive"


def probe(
    defense: str, strength: float | None, attacker: str, white_box: tuple[str, ...], found: bool, rng, vary: bool
) -> dict:
    threat = threat_of(attacker, white_box, strength)
    leak = leak_of(defense, strength, vary) * (0.7 if threat == "white-box" else 1.0)
    leak = leak**0.5 if threat.startswith("adaptive") else leak
    linked = found and rng.random() < leak
    mated = rng.normal(0.68 if linked else 0.25, 0.09)
    return {
        "attacker": attacker,
        "threat": threat,
        "acquired": found,
        "mated": mated if found else math.nan,
        "nonmated": rng.normal(0.32, 0.06) if found else math.nan,
        "rank": (1 if linked else int(rng.integers(2, IDENTITIES))) if found else 0,
        "match_1e-2": bool(found and mated >= THRESHOLD["1e-2"]),
        "match_1e-3": bool(found and mated >= THRESHOLD["1e-3"]),
    }


def utility_scores(quality: float, detected: bool, rng) -> dict:
    return {
        "ser_fiq": rng.normal(0.8 * quality, 0.02) if detected else math.nan,
        "brisque": rng.normal(60 - 30 * quality, 4),
        "closeness": rng.normal(0.8 * quality, 0.03),
        "adherence": float(rng.random() < 0.9 * quality),
    }


def calibration(attacker: str, far: str, tau: float) -> dict:
    return {
        "attacker": attacker,
        "far": float(far),
        "threshold": tau,
        "threshold_low": tau - 0.02,
        "threshold_high": tau + 0.02,
        "achieved_far": float(far) * 0.97,
        "impostor_pairs": 7560,
        "licence": "CC0-1.0" if attacker == "dlib" else "MIT",
        "source": f"example-package 1.0 ({attacker})",
        "fingerprint": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "title": f"{attacker} recognition",
    }


def summarize(defense, strength, images, probes, attackers, white_box, failed, vary) -> list[dict]:
    missing = sum((d, s) == (defense, strength) for d, s, _ in failed)
    context = {"defense": defense, "strength": math.nan if strength is None else strength, "missing": missing}
    own_images, own = (f[f["cell"].str.startswith(f"{defense}{strength}")] for f in (images, probes))
    rows = []
    if own_images.empty:
        return [{**context, **figure("utility_index", [])}]
    plain = [a for a in attackers if parse(a) is None]
    prepared = [a for a in attackers if links_people(a)]
    transfer = [a for a in plain if threat_of(a, white_box, strength) == "transfer"]
    single = {}
    for name in attackers:
        threat = threat_of(name, white_box, strength)
        single[name] = list(rates_of(own, [name], name, threat))
        rows += [{**context, **row} for row in single[name]]
        seen = own[own["attacker"] == name]
        rows.append({**context, **figure("fta", ~seen["acquired"], name, threat)})
        rows.append({**context, **figure("ism", seen["mated"].dropna(), name, threat, "acquired")})
        rows.append({**context, **figure("eer", [0.1, 0.1], name, threat, "acquired")})
    judges = {"worst-case": plain, "worst-case-adaptive": plain + prepared, "worst-case-transfer": transfer}
    for judge, members in judges.items():
        for several in zip(*(single[m] for m in members), strict=True):
            lower = several[0]["metric"].startswith(("r1u", "r5u", "psr"))
            top = (min if lower else max)(several, key=lambda row: row["value"])
            rows.append({**context, **top, "attacker": judge, "by": top["attacker"]})
    for judge, members in (("union", plain), ("union-adaptive", plain + prepared)):
        rows += [{**context, **row} for row in rates_of(own, members, judge, "")]
    for metric, column in {
        "face_detection_rate": "detected",
        "ser_fiq": "ser_fiq",
        "brisque": "brisque",
        "closeness_efficientnet_lite2": "closeness",
        "adherence": "adherence",
    }.items():
        rows.append({**context, **figure(metric, own_images[column].dropna())})
    rows.append({**context, **figure("fid_efficientnet_lite2", [41.5]), "low": math.nan, "high": math.nan})
    quality = 0.0 if defense == "generic" else quality_of(defense, strength, vary)
    spread = {"value": quality, "low": max(0.0, quality - 0.05), "high": min(1.0, quality + 0.04)}
    rows.append({**context, **figure("utility_index", [quality] * len(own_images)), **spread})
    return rows


def rates_of(own, members, name, threat):
    """Rows of every rate of the images that any of the members links."""
    seen = own[own["attacker"].isin(members)]
    hits = {"r1u": seen["rank"] == 1, "r5u": seen["rank"].between(1, 5)}
    hits |= {f"psr@{far}": seen[f"match_{far}"] for far in THRESHOLD}
    acquired = seen["acquired"].groupby(seen["image"]).max().to_numpy()
    for metric, hit in hits.items():
        linked = hit.groupby(seen["image"]).max().to_numpy().astype(float)
        inverse = {"r1u": "rank1_hit", "r5u": "rank5_hit"}.get(metric, metric.replace("psr", "match_rate"))
        policies = {"acquired": linked[acquired], "miss": linked, "chance": np.where(acquired, linked, 0.025)}
        policies["headline"] = max(policies.values(), key=lambda v: v.mean() if len(v) else -1)
        for policy, values in policies.items():
            for key, share in ((metric, 1 - values), (inverse, values)):
                row = figure(key, share, name, threat, policy)
                if "@" in key:
                    ends = [row["value"] - 0.04, row["value"] + 0.03]
                    row |= dict(zip(("threshold_low", "threshold_high"), np.clip(ends, 0, 1), strict=True))
                yield row


def figure(metric, values, attacker="", threat="", policy="") -> dict:
    values = np.asarray(values, dtype=float)
    n = len(values)
    mean = float(values.mean()) if n else math.nan
    half = 1.96 * float(values.std()) / math.sqrt(n) if n > 1 else math.nan
    return {
        "attacker": attacker,
        "threat": threat,
        "metric": metric,
        "policy": policy,
        "value": mean,
        "low": max(0.0, mean - half) if 0 <= mean <= 1 else mean - half,
        "high": min(1.0, mean + half) if 0 <= mean <= 1 else mean + half,
        "images": n,
        "subjects": 4,
        "by": "",
        "threshold_low": math.nan,
        "threshold_high": math.nan,
    }


def save_faces(folder: Path, count: int, subject: str, quality: float, rng, generic: bool = False) -> None:
    """`count` drawn faces, 64 x 64: tone and proportions belong to the subject, noise and blotches to low quality."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        drift = rng.spawn(1)[0] if generic else np.random.default_rng([i, *subject.encode()])
        who = drift if generic else np.random.default_rng(list(subject.encode()))
        tone, wide, eyes = who.uniform(120, 220), who.uniform(14, 20), who.uniform(6, 10)
        x, y = 32 + drift.uniform(-4, 4), 34 + drift.uniform(-3, 3)
        image = Image.new("L", (64, 64), int(drift.uniform(60, 120)))
        draw = ImageDraw.Draw(image)
        draw.ellipse((x - wide, y - 24, x + wide, y + 24), fill=int(tone))
        draw.pieslice((x - wide - 2, y - 27, x + wide + 2, y + 12), 180, 360, fill=int(tone / 4))
        for side in (-1, 1):
            draw.ellipse((x + side * eyes - 3, y - 6, x + side * eyes + 3, y - 2), fill=30)
        draw.line((x, y - 2, x - 2, y + 6, x + 1, y + 7), fill=int(tone * 0.7), width=1)
        draw.arc((x - 7, y + 8, x + 7, y + 16), 20, 160, fill=60, width=2)
        pixels = np.asarray(image, dtype=float) + drift.normal(0, 4 + 70 * (1 - quality), (64, 64))
        Image.fromarray(np.repeat(pixels.clip(0, 255).astype(np.uint8)[..., None], 3, 2)).save(folder / f"{i:02d}.png")
