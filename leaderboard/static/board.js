// The leaderboard's behaviour: filters, sorting, curves, theme. Everything from submissions is written as text nodes, or, where
// plotly would read it as markup, with <, > and & escaped. Without this script the pages show the default table.
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const holder = byId("data");
  const data = holder ? JSON.parse(holder.textContent) : null;
  const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const two = (x) => (x === null || x === undefined ? "–" : x.toFixed(2));
  const WORST = "worst-case";
  const JOINT = { [WORST]: "all but white-box", [`${WORST}-adaptive`]: "these and all adaptive" };

  // ---- theme --------------------------------------------------------------------------------------------------------

  const saved = () => { try { return localStorage.getItem("theme"); } catch { return null; } };
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  if (saved() === "dark" || saved() === "light") document.documentElement.dataset.theme = saved();
  const button = byId("theme");
  const nameTheme = () => { button.textContent = isDark() ? "Light" : "Dark"; };
  button.hidden = false;
  button.setAttribute("aria-label", "Switch between light and dark");
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("theme", document.documentElement.dataset.theme); } catch { /* no storage: for this page only */ }
    nameTheme();
    draw();
  });
  system.addEventListener("change", () => { nameTheme(); draw(); });
  nameTheme();
  if (!data) return;

  // ---- curves -------------------------------------------------------------------------------------------------------

  // Points that no other one beats in both, by falling utility; the same rule as iddmbench.metrics.tradeoff.pareto_front.
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
  const trace = (entry, judge, points, style) => ({
    x: points.map((p) => p[1]), y: points.map((p) => p[4]),
    text: points.map((p) => plain(`${entry.name}, strength ${p[0]}, ${judge}`)),
    name: plain(style.name || entry.name), legendgroup: style.group, showlegend: style.legend !== false,
    mode: style.mode || "lines+markers+text",
    textposition: "top right", texttemplate: style.labels === false ? "" : points.map((p) => String(p[0])), textfont: { size: 11, color: tint(entry) },
    line: { color: tint(entry), width: style.width || 2.4, dash: style.dash || "solid" },
    marker: { color: tint(entry), size: style.size || 9, symbol: entry.symbol },
    error_x: style.bars === false ? undefined : { ...reach(points, 1, 2, 3), color: tint(entry) },
    error_y: style.bars === false ? undefined : { ...reach(points, 4, 5, 6), color: tint(entry) },
    hovertemplate: hover + "<extra></extra>", opacity: style.opacity || 1,
  });
  // A submission's colour; on a dark page some need more light.
  const tint = (entry) => (!isDark() ? entry.color : `rgb(${[1, 3, 5].map((i) => Math.round(0.72 * parseInt(entry.color.slice(i, i + 2), 16) + 71)).join(",")})`);
  const strengths = (curve) => curve.filter((p) => typeof p[0] === "number");
  const anchor = (curve, which) => curve.find((p) => p[0] === which);
  const anchors = (curve, color) => [["none", "cross", data.anchors.none], ["generic", "x", data.anchors.generic]].flatMap(([key, symbol, name]) => {
    const p = anchor(curve, key);
    return p ? [{
      x: [p[1]], y: [p[4]], name, text: [name], mode: "markers", marker: { color, symbol, size: 12, line: { width: 0 } },
      hovertemplate: hover + "<extra></extra>", error_y: { ...reach([p], 4, 5, 6), color },
    }] : [];
  });

  function tracesOfRows(rows, metric) {
    const dark = isDark(), gray = dark ? "#9ba7b6" : "#586170";
    const traces = [], points = [];
    let seen = false;
    const several = new Set(rows.map((r) => r.judge)).size > 1;
    for (const row of rows) {
      const entry = data.entries[row.id], curve = (entry.curves[row.judge] || {})[metric] || [];
      const own = strengths(curve);
      if (!own.length) continue;
      const name = several ? `${entry.name}, ${row.judge}` : entry.name;
      const start = anchor(curve, "none");
      if (start) traces.push({
        x: [start[1], own[0][1]], y: [start[4], own[0][4]], mode: "lines", line: { color: tint(entry), width: 1.2, dash: "dot" },
        legendgroup: row.id + row.judge, showlegend: false, hoverinfo: "skip",
      });
      traces.push(trace(entry, row.over || row.judge, own, { name, group: row.id + row.judge }));
      points.push(...own.map((p) => ({ x: p[1], y: p[4] })));
      if (start) points.push({ x: start[1], y: start[4] });
      if (!seen) { traces.unshift(...anchors(curve, gray)); seen = true; }
    }
    const steps = stairs(paretoFront(points));
    if (points.length) traces.unshift({
      ...steps, name: "Pareto front", mode: "lines", line: { color: gray, width: 1.4, dash: "dash" }, hoverinfo: "skip",
    });
    return traces;
  }

  function tracesOfEntry(entry, metric) {
    const gray = isDark() ? "#9ba7b6" : "#586170", traces = [];
    const dashes = ["solid", "dash", "dashdot", "longdash", "longdashdot"];
    let i = 0;
    for (const [judge, metrics] of Object.entries(entry.curves)) {
      const curve = metrics[metric] || [], own = strengths(curve), worst = judge === WORST;
      if (!own.length) continue;
      const style = worst ? { name: "worst case" } : { name: judge, width: 1.3, size: 5, bars: false, labels: false, mode: "lines+markers", dash: dashes[i++ % 5], opacity: 0.8 };
      const start = anchor(curve, "none");
      traces.push(trace(entry, judge, start && !worst ? [start, ...own] : own, style));
      if (worst) traces.push(...anchors(curve, gray));
    }
    return traces;
  }

  function layout(metric, names) {
    const style = getComputedStyle(document.documentElement);
    const value = (name) => style.getPropertyValue(name).trim();
    const narrow = window.innerWidth < 736;
    const axis = { range: [-0.03, 1.06], gridcolor: value("--line"), zeroline: false, tickfont: { color: value("--soft") }, linecolor: value("--line"), dtick: 0.2 };
    return {
      paper_bgcolor: value("--page"), plot_bgcolor: value("--page"), font: { color: value("--ink"), family: "system-ui, sans-serif", size: 13 },
      margin: narrow ? { l: 52, r: 10, t: 16, b: 64 + 23 * names } : { l: 64, r: 24, t: 24, b: 56 },
      height: narrow ? 420 + 23 * names : 520,
      xaxis: { ...axis, title: { text: narrow ? "utility index →" : "utility index (1 = undefended) →", font: { size: 13 } } },
      yaxis: { ...axis, title: { text: `${data.metrics[metric]} →`, font: { size: 13 } }, tickformat: ".0%" },
      legend: narrow ? { yref: "container", y: 0, yanchor: "bottom", x: 0, maxheight: 4000, font: { size: 12 } } : { x: 1.01, y: 1, font: { size: 12 } },
      hovermode: "closest", hoverlabel: { align: "left" },
    };
  }

  const config = {
    responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"],
    toImageButtonOptions: { format: "svg", filename: "iddmbench-tradeoff" }, scrollZoom: false,
  };
  let current = null;
  function draw() {
    if (!data || !window.Plotly || !byId("curves")) return;
    const metric = current ? current.metric : Object.keys(data.metrics)[0];
    const traces = data.only ? tracesOfEntry(data.entries[data.only], metric) : tracesOfRows(current ? current.rows : [], metric);
    const names = traces.filter((t) => t.showlegend !== false).length;
    window.Plotly.react(byId("curves"), traces, layout(metric, names), config);
  }

  if (data.only) { draw(); return; }

  // ---- table --------------------------------------------------------------------------------------------------------

  const cells = [
    ["Rank", (r) => (r.rank === null ? "–" : `${r.rank}${r.tied.length ? " =" : ""}`), ""],
    ["Submission", null, ""],
    ["Hypervolume", null, "number"],
    ["Privacy at utility ≥ 0.9", (r) => two(r.privacy_at), "number"],
    ["Utility at privacy ≥ 0.9", (r) => two(r.utility_at), "number"],
    ["Privacy, strongest", (r) => (r.privacy === null ? "–" : `${(100 * r.privacy).toFixed(0)} %`), "number"],
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
    if (row.tied.length) line.title = `tied with ${row.tied.map((id) => data.entries[id].name).join(", ")}`;
    for (const [label, text, name] of cells) {
      const cell = element(label === "Submission" ? "th" : "td", text ? text(row) : undefined, name);
      cell.dataset.label = label;
      if (label === "Submission") {
        cell.scope = "row";
        const dot = element("span", undefined, "dot"), link = element("a", entry.name);
        dot.style.background = tint(entry);
        link.href = `submissions/${row.id}.html`;
        cell.append(dot, link, element("small", entry.unranked ? `${entry.title} — not ranked: ${entry.unranked}` : entry.title));
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
  for (const head of document.querySelectorAll("#board thead th")) {
    const press = element("button", head.textContent);
    press.type = "button";
    head.replaceChildren(press);
    press.addEventListener("click", () => {
      const key = head.dataset.sort, first = !["rank", "name", "over"].includes(key);
      order.down = order.key === key ? !order.down : first;
      order.key = key;
      for (const other of document.querySelectorAll("#board thead th")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order.down ? "descending" : "ascending");
      update();
    });
  }
  byId("filters").hidden = false;
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  for (const id of ["track", "threat"]) byId(id).addEventListener("change", () => { fillJudges(); update(); });
  for (const id of ["judge", "metric", "ranked"]) byId(id).addEventListener("change", update);
  byId("search").addEventListener("input", update);
  window.addEventListener("resize", () => draw());
  fillJudges();
  update();
})();
