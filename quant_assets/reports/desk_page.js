"use strict";
(() => {
  const root = document.documentElement;
  // Opened as a file there is no server beside the page: links into the UI go to the address that it usually has.
  if (location.protocol === "file:")
    for (const link of document.querySelectorAll("a.ui")) link.href = root.dataset.ui + link.getAttribute("href");

  const data = JSON.parse(document.getElementById("candidates").textContent);
  const left = document.getElementById("left"), right = document.getElementById("right");
  if (!left || data.length < 2) return;
  const place = document.getElementById("comparison");

  const make = (name, attributes = {}, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };
  const draw = (name, attributes, ...children) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };
  const minus = (text) => text.replace(/-/g, "−");
  const fixed = (value) => (value === null ? "–" : minus(value.toFixed(2)));
  const share = (value) => minus((100 * value).toFixed(0)) + "%";
  const table = (heads, rows, empty) => {
    if (!rows.length) return make("p", { class: "muted" }, empty);
    const cells = (kind, row) => make("tr", {}, ...row.map((cell) => make(kind, { class: "words" }, ...[].concat(cell))));
    return make("div", { class: "scroll", tabindex: "0" },
      make("table", {}, make("thead", {}, cells("th", heads)), make("tbody", {}, ...rows.map((row) => cells("td", row)))));
  };
  const sides = ["first", "second"];
  const key = (two) => make("p", { class: "small key" },
    ...two.map((one, i) => make("span", {}, make("i", { class: sides[i] }), one.label)));

  const settings = ([a, b]) => {
    const names = [...new Set([...Object.keys(a.settings), ...Object.keys(b.settings)])].sort();
    const told = (one, name) => (name in one.settings ? one.settings[name] : "–");
    return names.filter((name) => told(a, name) !== told(b, name)).map((name) => [name, told(a, name), told(b, name)]);
  };
  const gates = ([a, b]) => {
    const cell = (verdict) => verdict
      ? [make("span", { class: "pill " + verdict.status }, verdict.words), " " + verdict.observed + " (" + verdict.required + ")"]
      : ["no verdict"];
    const names = [...new Set([...Object.keys(a.gates), ...Object.keys(b.gates)])];
    return names.map((name) => [(a.gates[name] || b.gates[name]).title, cell(a.gates[name]), cell(b.gates[name])]);
  };
  const range = (values) => {
    const low = Math.min(...values), high = Math.max(...values), room = (high - low || 1) * 0.06;
    return [low - room, high + room];
  };
  const spread = (two) => {
    const required = two.map((one) => one.required).filter((value) => value !== null);
    const [low, high] = range([0, ...required, ...two.flatMap((one) => one.paths)]);
    const x = (value) => 20 + (600 * (value - low)) / (high - low);
    const picture = draw("svg", { viewBox: "0 0 640 136", class: "chart", role: "img", "aria-label": "Sharpe ratio of each path" });
    for (const value of new Set([0, ...required]))
      picture.append(
        draw("line", { x1: x(value), x2: x(value), y1: 18, y2: 86, class: value ? "required" : "axis" }),
        draw("text", { x: x(value), y: value ? 130 : 106, "text-anchor": "middle" }, value ? "required " + fixed(value) : "0"));
    two.forEach((one, i) => {
      for (const value of one.paths)
        picture.append(draw("circle", { cx: x(value), cy: 34 + 34 * i, r: value === one.sharpe ? 9 : 6, class: sides[i] }));
      if (one.sharpe !== null)
        picture.append(draw("text", { x: x(one.sharpe), y: 22 + 34 * i, "text-anchor": "middle" }, fixed(one.sharpe)));
    });
    return picture;
  };
  const equity = (two) => {
    const known = two.filter((one) => one.days.length);
    if (!known.length) return make("p", { class: "muted" }, "No track of these candidates is in the trial ledger.");
    const [first, last] = [Math.min(...known.map((o) => o.days[0])), Math.max(...known.map((o) => o.days.at(-1)))];
    const grown = (value) => Math.log1p(value);  // of one strategy that doubles and one that stands still both are seen
    const [low, high] = range([0, ...known.flatMap((one) => one.growth.map(grown))]);
    const x = (day) => 92 + (530 * (day - first)) / (last - first || 1), y = (value) => 12 + (176 * (high - grown(value))) / (high - low);
    const date = (day) => new Date(day * 864e5).toISOString().slice(0, 10);
    const picture = draw("svg", { viewBox: "0 0 640 220", class: "chart", role: "img", "aria-label": "Net equity of the median paths" },
      draw("line", { x1: 92, x2: 622, y1: y(0), y2: y(0), class: "axis" }),
      draw("text", { x: 86, y: y(0) + 5, "text-anchor": "end" }, "0%"),
      draw("text", { x: 92, y: 214 }, date(first)), draw("text", { x: 622, y: 214, "text-anchor": "end" }, date(last)));
    for (const value of new Set(known.map((one) => one.growth.at(-1))))
      if (Math.abs(y(value) - y(0)) > 18) picture.append(draw("text", { x: 86, y: y(value) + 5, "text-anchor": "end" }, share(value)));
    two.forEach((one, i) => picture.append(draw("polyline", { class: sides[i],
      points: one.days.map((day, n) => x(day).toFixed(1) + "," + y(one.growth[n]).toFixed(1)).join(" ") })));
    return picture;
  };

  const compare = () => {
    const two = [data[left.value], data[right.value]];
    const facts = [["decision", "decision"], ["judged", "at"], ["sessions", "sessions"], ["trials counted", "trials"]];
    place.replaceChildren(key(two),
      table(["", "first", "second"], [["candidate", ...two.map((one) => one.subject)],
        ["median Sharpe, annual", ...two.map((one) => fixed(one.sharpe))],
        ...facts.map(([words, name]) => [words, ...two.map((one) => String(one[name]))])], ""),
      make("h3", {}, "Other settings"),
      table(["setting", "first", "second"], settings(two), "They have the same settings."),
      make("h3", {}, "Gates"), table(["gate", "first", "second"], gates(two), "Neither was judged."),
      make("h3", {}, "Annual net Sharpe ratio of each path"), spread(two),
      make("h3", {}, "Net equity of the path with the median Sharpe ratio, logarithmic"), equity(two));
  };
  left.addEventListener("change", compare);
  right.addEventListener("change", compare);
  compare();
})();
