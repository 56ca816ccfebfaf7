// The leaderboard's behaviour: filters, sorting, curves, theme. Everything from submissions is written as text nodes, or, where
// plotly would read it as markup, with <, > and & escaped. Without this script the pages show the default table.
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const holder = byId("data");
  const data = holder ? JSON.parse(holder.textContent) : null;
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  // 0.9991 is not 1.00: all and none are said only when they are meant.
  const decimal = (x) => (x > 0 && x < 0.005 ? (x < 0.0005 ? "<0.001" : x.toFixed(3)) : x < 1 && x >= 0.995 ? (x >= 0.9995 ? ">0.999" : x.toFixed(3)) : x.toFixed(2));
  const two = (x) => (x === null || x === undefined ? "–" : decimal(x));
  const rate = (x) => { const v = 100 * x, one = v.toFixed(1); return (v > 0 && v < 1) || (v > 99 && v < 100) ? (one === "0.0" ? "<0.1" : one === "100.0" ? ">99.9" : one) : v.toFixed(0); };
  const WORST = "worst-case";
  const JOINT = { [WORST]: "strongest plain attacker", [`${WORST}-adaptive`]: "strongest of all, adaptive too", [`${WORST}-transfer`]: "strongest that is not white-box" };

  // ---- theme --------------------------------------------------------------------------------------------------------

  const saved = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  if (saved() === "dark" || saved() === "light") document.documentElement.dataset.theme = saved();
  const button = byId("theme");
  let refresh = () => {};
  const nameTheme = () => { button.textContent = isDark() ? "Light" : "Dark"; };
  button.hidden = false;
  button.setAttribute("aria-label", "Switch between light and dark");
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("theme", document.documentElement.dataset.theme); } catch { /* no storage: for this page only */ }
    nameTheme();
    refresh();
  });
  system.addEventListener("change", () => { nameTheme(); refresh(); });
  nameTheme();
  if (!data) return;

  // ---- curves -------------------------------------------------------------------------------------------------------

  // Points that no other one beats in both, by falling utility; tests/test_leaderboard_browser.py checks it.
  const paretoFront = (points) => {
    const front = [];
    for (const p of [...points].sort((a, b) => b.x - a.x || b.y - a.y)) {
      if (!front.length || p.y > front[front.length - 1].y) front.push(p);
    }
    return front;
  };
  // The front as stairs: what the points dominate from (0, 0).
  const stairs = (front) => {
    const x = [], y = [];
    front.forEach((p, i) => {
      if (i) { x.push(p.x); y.push(front[i - 1].y); }
      x.push(p.x); y.push(p.y);
    });
    return { x: front.length ? [front[0].x, ...x, 0] : [], y: front.length ? [0, ...y, front[front.length - 1].y] : [] };
  };
  const reach = (points, value, low, high) => ({
    type: "data", symmetric: false, thickness: 1.2, width: 0,
    array: points.map((p) => (p[high] === null ? 0 : Math.max(0, p[high] - p[value]))),
    arrayminus: points.map((p) => (p[low] === null ? 0 : Math.max(0, p[value] - p[low]))),
  });
  const hover = "%{text}<br>utility %{x:.2f}<br>privacy %{y:.2f}";
  const CROWD = 8; // with more curves, strengths and intervals are left to those who ask for them
  const gray = () => (isDark() ? "#9ba7b6" : "#586170");
  // A submission's or attacker's colour; on a dark page some need more light.
  const tint = (look) => (!isDark() ? look.color : `rgb(${[1, 3, 5].map((i) => Math.round(0.72 * parseInt(look.color.slice(i, i + 2), 16) + 71)).join(",")})`);
  const trace = (look, points, style) => ({
    x: points.map((p) => p[1]), y: points.map((p) => p[4]),
    text: points.map((p) => plain(`${style.about}, strength ${p[0] === "none" ? 0 : p[0]}`)),
    name: plain(style.name), legendgroup: style.group, mode: style.labels ? "lines+markers+text" : "lines+markers",
    textposition: "top right", texttemplate: style.labels ? points.map((p) => String(p[0])) : "", textfont: { size: 11, color: gray() },
    line: { color: tint(look), width: style.width || 2.4, dash: look.dash },
    marker: { color: tint(look), size: style.size || 9, symbol: look.symbol, line: { color: tint(look), width: look.symbol.includes("open") ? 2 : 0 } },
    error_x: style.bars ? { ...reach(points, 1, 2, 3), color: tint(look) } : undefined,
    error_y: style.bars ? { ...reach(points, 4, 5, 6), color: tint(look) } : undefined,
    hovertemplate: hover + "<extra></extra>",
  });
  const strengths = (curve) => curve.filter((p) => typeof p[0] === "number");
  const anchor = (curve, which) => curve.find((p) => p[0] === which);
  const anchors = (curve, bars) => [["none", "cross"], ["generic", "x"]].flatMap(([key, symbol]) => {
    const p = anchor(curve, key), name = data.anchors[key];
    return p ? [{
      x: [p[1]], y: [p[4]], name, text: [name], mode: "markers", legendgroup: key, marker: { color: gray(), symbol, size: 12, line: { width: 0 } },
      hovertemplate: hover + "<extra></extra>", error_y: bars ? { ...reach([p], 4, 5, 6), color: gray() } : undefined,
    }] : [];
  });

  function tracesOfRows(rows, metric, bars) {
    const traces = [], points = [];
    let seen = false;
    const several = new Set(rows.map((r) => r.judge)).size > 1;
    const curves = rows.filter((r) => strengths((data.entries[r.id].curves[r.judge] || {})[metric] || []).length).length;
    for (const row of rows) {
      const entry = data.entries[row.id], curve = (entry.curves[row.judge] || {})[metric] || [];
      const own = strengths(curve);
      if (!own.length) continue;
      const name = several ? `${entry.name}, ${row.judge}` : entry.name, group = row.id + row.judge;
      const start = anchor(curve, "none");
      if (start) traces.push({
        x: [start[1], own[0][1]], y: [start[4], own[0][4]], mode: "lines", line: { color: tint(entry), width: 1.2, dash: "dot" },
        legendgroup: group, showlegend: false, hoverinfo: "skip",
      });
      traces.push(trace(entry, own, { name, group, about: `${entry.name}, ${row.over || row.judge}`, bars, labels: curves <= CROWD, width: curves > CROWD ? 1.8 : 2.4 }));
      traces[traces.length - 1].look = entry;
      points.push(...own.map((p) => ({ x: p[1], y: p[4] })));
      if (start) points.push({ x: start[1], y: start[4] });
      if (!seen) { traces.unshift(...anchors(curve, bars)); seen = true; }
    }
    const steps = stairs(paretoFront(points));
    if (points.length) traces.unshift({
      ...steps, name: "Pareto front", legendgroup: "front", mode: "lines", line: { color: gray(), width: 1.4, dash: "dash" }, hoverinfo: "skip",
    });
    return traces;
  }

  function tracesOfEntry(entry, metric, bars) {
    const traces = [];
    for (const [judge, metrics] of Object.entries(entry.curves)) {
      const curve = metrics[metric] || [], own = strengths(curve), joint = data.lines[judge].joint;
      if (!own.length) continue;
      const start = anchor(curve, "none"), look = joint ? { ...entry, dash: data.lines[judge].dash } : data.lines[judge];
      const style = { name: data.lines[judge].title, group: judge, about: `${entry.name}, ${data.lines[judge].title}` };
      const drawn = trace(look, start && judge !== WORST ? [start, ...own] : own, { ...style, bars: bars && judge === WORST, labels: judge === WORST, width: joint ? 2.6 : 1.3, size: joint ? 9 : 6 });
      drawn.look = look;
      if (judge === WORST) traces.unshift(drawn, ...anchors(curve, bars)); else traces.push(drawn);
    }
    return traces;
  }

  // What the points of strengths span, with some room; the un-personalized model lies far off.
  function near(traces) {
    const x = [], y = [];
    for (const t of traces) if (t.legendgroup !== "generic" && t.legendgroup !== "front") { x.push(...t.x); y.push(...t.y); }
    if (!x.length) return null;
    const around = (v, least) => {
      const low = Math.min(...v), high = Math.max(...v), room = Math.max(least, 0.08 * (high - low));
      return [Math.max(-0.03, low - room), Math.min(1.06, high + room)];
    };
    return [around(x, 0.02), around(y, 0.03)];
  }

  function layout(metric, range) {
    const style = getComputedStyle(document.documentElement);
    const value = (name) => style.getPropertyValue(name).trim();
    const narrow = window.innerWidth < 736;
    const axis = { zeroline: false, gridcolor: value("--line"), tickfont: { color: value("--soft") }, linecolor: value("--line"), nticks: narrow ? 6 : 9 };
    const [x, y] = range || [[-0.03, narrow ? 1.12 : 1.06], [-0.03, 1.06]];  // on a phone a strength beside a point at 1 needs more
    return {
      paper_bgcolor: value("--page"), plot_bgcolor: value("--page"), font: { color: value("--ink"), family: "system-ui, sans-serif", size: 13 },
      margin: narrow ? { l: 52, r: 12, t: 16, b: 52 } : { l: 64, r: 24, t: 24, b: 56 },
      height: narrow ? 400 : 520, showlegend: false, dragmode: narrow ? false : "zoom",
      xaxis: { ...axis, range: x, title: { text: narrow ? "utility index →" : "utility index (1 = undefended) →", font: { size: 13 } } },
      yaxis: { ...axis, range: y, title: { text: `${data.metrics[metric]} →`, font: { size: 13 } }, tickformat: ".0%" },
      hovermode: "closest", hoverlabel: { align: "left" },
    };
  }

  const config = () => ({
    responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"], scrollZoom: false,
    displayModeBar: window.innerWidth < 736 ? false : "hover", toImageButtonOptions: { format: "svg", filename: "iddmbench-tradeoff" },
  });
  const SHAPES = {
    circle: "M6 1a5 5 0 1 0 .01 0z", square: "M1.5 1.5h9v9h-9z", diamond: "M6 .5 11.5 6 6 11.5.5 6z", "triangle-up": "M6 1 11.5 10.5H.5z",
    "triangle-down": "M6 11 .5 1.5h11z", star: "M6 .3 7.5 4.3l4.2.2-3.3 2.6 1.1 4.1L6 8.9 2.5 11.2l1.1-4.1L.3 4.5l4.2-.2z",
    pentagon: "M6 .6 11.4 4.5 9.3 10.9H2.7L.6 4.5z", "triangle-right": "M11 6 1.5.5v11z",
    cross: "M4.5.8h3v3.7h3.7v3H7.5v3.7h-3V7.5H.8v-3h3.7z", x: "M2.6.8 6 4.2 9.4.8l1.8 1.8L7.8 6l3.4 3.4-1.8 1.8L6 7.8l-3.4 3.4L.8 9.4 4.2 6 .8 2.6z",
  };
  // The marker of a curve, drawn: the same sign in the key and in the table.
  function sign(symbol, color) {
    const space = "http://www.w3.org/2000/svg", made = document.createElementNS(space, "svg"), path = document.createElementNS(space, "path");
    const [shape, open] = [symbol.replace(/-open|-dot/g, ""), symbol.includes("open")];
    made.setAttribute("viewBox", "-1 -1 14 14");
    made.setAttribute("class", "sign");
    made.setAttribute("aria-hidden", "true");
    path.setAttribute("d", SHAPES[shape] || SHAPES.circle);
    path.setAttribute("stroke", color);
    path.setAttribute("stroke-width", open ? "2" : "0");
    path.setAttribute("fill", open ? "none" : color);
    made.append(path);
    if (symbol.includes("dot")) {
      const dot = document.createElementNS(space, "circle");
      for (const [name, text] of [["cx", "6"], ["cy", "6"], ["r", "2"], ["fill", open ? color : "Canvas"]]) dot.setAttribute(name, text);
      made.append(dot);
    }
    return made;
  }
  const unescaped = (text) => text.replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&amp;/g, "&");

  const hidden = new Set(data.hidden || []);
  let current = null, asked = null;
  // The others fade, so that one curve of many can be followed.
  function stress(group) {
    const drawn = byId("curves");
    if (!drawn || !drawn.data || !drawn.data.length) return;
    window.Plotly.restyle(drawn, { opacity: drawn.data.map((t) => (!group || t.legendgroup === group || t.legendgroup === "none" ? 1 : 0.12)) });
  }
  function key(traces) {
    const focused = document.activeElement && document.activeElement.dataset ? document.activeElement.dataset.group : undefined;
    byId("key").replaceChildren(...traces.filter((t) => t.showlegend !== false).map((t) => {
      const press = document.createElement("button"), label = document.createElement("span");
      press.type = "button";
      press.dataset.group = t.legendgroup;
      press.setAttribute("aria-pressed", String(!hidden.has(t.legendgroup)));
      label.textContent = unescaped(t.name);
      if (t.marker) press.append(sign(t.marker.symbol, t.marker.color));
      else { const line = document.createElement("i"); line.className = "line"; press.append(line); }
      press.append(label);
      press.addEventListener("click", () => { if (!hidden.delete(t.legendgroup)) hidden.add(t.legendgroup); draw(); });
      press.addEventListener("pointerenter", (event) => { if (event.pointerType === "mouse") stress(t.legendgroup); });
      press.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") stress(null); });
      return press;
    }));
    if (focused !== undefined) [...byId("key").children].filter((b) => b.dataset.group === focused).forEach((b) => b.focus());
  }
  function draw() {
    if (!data || !window.Plotly || !byId("curves")) return;
    const metric = current ? current.metric : Object.keys(data.metrics)[0];
    const rows = current ? current.rows : [], only = data.only ? data.entries[data.only] : null;
    if (asked === null) byId("bars").checked = only !== null || rows.length <= CROWD;
    const made = (bars) => (only ? tracesOfEntry(only, metric, bars) : tracesOfRows(rows, metric, bars));
    const traces = made(byId("bars").checked);
    for (const t of traces) t.visible = !hidden.has(t.legendgroup);
    const shown = traces.filter((t) => t.visible);
    key(traces);
    window.Plotly.react(byId("curves"), traces.map(({ look, ...rest }) => rest), layout(metric, byId("enlarge").checked ? near(shown) : null), config());
  }
  if (byId("curves")) {
    byId("tools").hidden = false;
    byId("bars").addEventListener("change", () => { asked = true; draw(); });
    byId("enlarge").addEventListener("change", draw);
    byId("enlarge").checked = Boolean(data.enlarge);
    window.addEventListener("resize", () => draw());
  }

  if (data.only) { refresh = draw; draw(); return; }

  // ---- table --------------------------------------------------------------------------------------------------------

  const cells = [
    ["Rank", (r) => (r.rank === null ? "–" : `${r.rank}${r.tied.length ? " =" : ""}`), ""],
    ["Submission", null, ""],
    ["Hypervolume", null, "number"],
    ["Privacy at utility ≥ 0.9", (r) => two(r.privacy_at), "number"],
    ["Utility at privacy ≥ 0.9", (r) => two(r.utility_at), "number"],
    ["Privacy, strongest", (r) => (r.privacy === null ? "–" : `${rate(r.privacy)} %`), "number"],
    ["Utility, strongest", (r) => two(r.utility), "number"],
    ["Judged by", (r) => r.over || "–", ""],
    ["Cells retrained", (r) => String(data.entries[r.id].retrained), "number"],
  ];
  const element = (tag, text, name) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (name) made.className = name;
    return made;
  };
  function tableRow(row) {
    const entry = data.entries[row.id], line = element("tr");
    line.dataset.id = row.id;
    line.addEventListener("pointerenter", (event) => { if (event.pointerType === "mouse") stress(row.id + row.judge); });
    line.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") stress(null); });
    if (row.tied.length) line.title = `tied with ${row.tied.map((id) => data.entries[id].name).join(", ")}`;
    for (const [label, text, name] of cells) {
      const cell = element(label === "Submission" ? "th" : "td", text ? text(row) : undefined, name);
      cell.dataset.label = label;
      if (label === "Submission") {
        cell.scope = "row";
        const link = element("a", entry.name);
        link.href = `submissions/${row.id}.html`;
        cell.append(sign(entry.symbol, tint(entry)), link, element("small", entry.unranked ? `${row.about} — not ranked: ${entry.unranked}` : row.about));
      }
      if (label === "Hypervolume") {
        const box = element("span", row.area ? `${two(row.area[0])} ` : "–", row.area ? "area" : "");
        if (row.area) {
          box.style.setProperty("--share", `${(100 * row.area[0]).toFixed(1)}%`);
          box.append(element("span", `[${two(row.area[1])}, ${two(row.area[2])}]`, "interval"));
        }
        cell.append(box);
      }
      line.append(cell);
    }
    return line;
  }

  const order = { key: "rank", down: false };
  const keys = {
    rank: (r) => r.rank, name: (r) => data.entries[r.id].name.toLowerCase(), area: (r) => (r.area ? r.area[0] : null),
    privacy_at: (r) => r.privacy_at, utility_at: (r) => r.utility_at, privacy: (r) => r.privacy, utility: (r) => r.utility,
    over: (r) => r.over, retrained: (r) => data.entries[r.id].retrained,
  };
  function compare(a, b) {
    const x = keys[order.key](a), y = keys[order.key](b);
    if (x === null || y === null) return (x === null) - (y === null); // what is unknown stays below
    const sign = typeof x === "string" ? x.localeCompare(y) : x - y;
    const tie = order.key === "rank" && a.area && b.area ? b.area[0] - a.area[0] : 0;
    return (order.down ? -sign : sign) || tie;
  }
  const selected = () => ({
    track: byId("track").value, threat: byId("threat").value, judge: byId("judge").value, metric: byId("metric").value,
    search: byId("search").value.trim().toLowerCase(), ranked: byId("ranked").checked,
  });
  function fillJudges() {
    const { track, threat } = selected(), list = byId("judge"), before = list.value;
    const found = [...new Set(data.rows.filter((r) => r.track === track && r.threat === threat).map((r) => r.judge))];
    list.replaceChildren();
    if (JOINT[threat]) list.append(new Option(JOINT[threat], ""));
    else {
      list.append(new Option("each", ""));
      for (const judge of found) list.append(new Option(judge, judge));
    }
    list.disabled = threat in JOINT;
    if ([...list.options].some((o) => o.value === before)) list.value = before;
  }
  function update() {
    const s = selected();
    const rows = data.rows.filter((r) => r.track === s.track
      && (r.metric === "" ? s.threat === WORST : r.metric === s.metric && r.threat === s.threat)
      && (!s.judge || r.judge === s.judge) && (!s.ranked || r.rank !== null)
      && (!s.search || `${data.entries[r.id].name} ${data.entries[r.id].title} ${data.entries[r.id].defense}`.toLowerCase().includes(s.search)));
    rows.sort(compare);
    document.querySelector("#board tbody").replaceChildren(...rows.map(tableRow));
    byId("status").textContent = `${rows.length} ${rows.length === 1 ? "row" : "rows"}`;
    current = { rows: [...rows].sort((a, b) => data.entries[a.id].name.localeCompare(data.entries[b.id].name)), metric: s.metric };
    draw();
  }
  const heads = [...document.querySelectorAll("#board thead th")], first = (key) => !["rank", "name", "over"].includes(key);
  function sortBy(key, down) {
    Object.assign(order, { key, down });
    for (const head of heads) {
      if (head.dataset.sort === key) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
    byId("sort").value = key;
    update();
  }
  for (const head of heads) {
    const press = element("button", head.textContent), key = head.dataset.sort;
    press.type = "button";
    byId("sort").append(new Option(head.textContent.replace(/\u00a0.*/, ""), key));
    head.replaceChildren(press);
    press.addEventListener("click", () => sortBy(key, order.key === key ? !order.down : first(key)));
  }
  byId("sort").addEventListener("change", () => sortBy(byId("sort").value, first(byId("sort").value)));
  byId("filters").hidden = false;
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  for (const id of ["track", "threat"]) byId(id).addEventListener("change", () => { fillJudges(); update(); });
  for (const id of ["judge", "metric", "ranked"]) byId(id).addEventListener("change", update);
  byId("search").addEventListener("input", update);
  fillJudges();
  refresh = update;
  update();
})();
