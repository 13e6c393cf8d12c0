"use strict";
// Tables: sort by a click on a heading, filter by the values of some columns.
const element = (name, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};

const sortKey = (text) => {
  const found = text.match(/[-+]?\d+\.\d+/) || text.match(/[-+]?\d+/);
  return found ? Number(found[0]) : -Infinity;
};

function sortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    // Not a button element, which is left out of headings repeated on further pages.
    const button = element("span", { tabIndex: 0, title: "Sort" }, ...head.childNodes);
    button.setAttribute("role", "button");
    head.append(button);
    button.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); button.click(); }
    });
    button.addEventListener("click", () => {
      const numeric = head.classList.contains("number");
      const first = numeric ? "descending" : "ascending";
      const other = numeric ? "ascending" : "descending";
      const order = head.getAttribute("aria-sort") === first ? other : first;
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const key = (row) => row.cells[column].textContent;
      const compare = numeric
        ? (a, b) => sortKey(key(a)) - sortKey(key(b))
        : (a, b) => key(a).localeCompare(key(b), "en", { numeric: true });
      for (const body of table.tBodies) {
        const rows = [...body.rows].filter((row) => row.className !== "group");
        body.append(...rows.sort((a, b) => sign * compare(a, b)));
      }
    });
  });
}

function filterable(table) {
  if (!table.dataset.filters) return;
  const columns = table.dataset.filters.split(",").map(Number);
  const rows = [...table.tBodies].flatMap((body) => [...body.rows])
    .filter((row) => row.className !== "group");
  const count = element("output");
  const choices = columns.map((column) => {
    const select = element("select");
    const values = new Set(rows.map((row) => row.cells[column].textContent));
    select.append(new Option("all", ""), ...[...values].map((value) => new Option(value, value)));
    select.addEventListener("change", apply);
    return select;
  });
  function apply() {
    const fits = (row) => columns.every((column, place) => !choices[place].value ||
      row.cells[column].textContent === choices[place].value);
    for (const row of rows) row.hidden = !fits(row);
    for (const body of table.tBodies)
      body.hidden = [...body.rows].every((row) => row.className === "group" || row.hidden);
    count.value = `${rows.filter((row) => !row.hidden).length} of ${rows.length} shown`;
  }
  const labels = columns.map((column, place) => element("label", {},
    `${table.tHead.rows[0].cells[column].textContent}: `, choices[place]));
  table.parentElement.before(element("div", { className: "filters" }, ...labels, count));
  apply();
}

// Curves: a legend of switches that also shows the values under the pointer.
const ink = () => getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();
const line = () => getComputedStyle(document.documentElement).getPropertyValue("--line").trim();
const colourOf = (curve) => curve.colour === "#000000" ? ink() : curve.colour;

const swatch = (curve) => {
  const dashes = curve.dashes.map((length) => 2 * length).join(" ");
  const svg = `<svg width="26" height="8" aria-hidden="true"><line x1="0" x2="26" y1="4" y2="4"
    stroke-width="2.5" stroke="${curve.colour === "#000000" ? "currentColor" : curve.colour}"
    stroke-dasharray="${dashes}"/></svg>`;
  return document.createRange().createContextualFragment(svg);
};

function draw(place, panel, sync) {
  const epochs = Math.max(1, ...panel.curves.flatMap((c) => [c.mean || [], ...c.runs].map((v) => v.length)));
  const data = [Array.from({ length: epochs }, (_, i) => i + 1)];
  const series = [{}], bands = [], own = [];
  const add = (values, options) => {
    data.push(values);
    series.push({ points: { show: epochs === 1 }, spanGaps: true, ...options });
    return series.length - 1;
  };
  for (const curve of panel.curves) {
    const stroke = () => colourOf(curve), dash = curve.dashes.map((length) => 2 * length);
    const places = [];
    if (curve.range) {
      const low = add(curve.range[0], { stroke: "transparent" });
      const high = add(curve.range[1], { stroke: "transparent" });
      bands.push({ series: [high, low], fill: curve.colour + "33" });
      places.push(low, high);
    }
    const faint = curve.mean ? "66" : "";
    for (const run of curve.runs)
      places.push(add(run, { stroke: () => colourOf(curve) + faint, width: 1, dash: faint ? [] : dash }));
    curve.shown = curve.mean ? add(curve.mean, { stroke, width: 2, dash }) : places[0];
    if (curve.mean) places.push(curve.shown);
    own.push(places);
  }
  const format = (value) => value == null ? "" :
    panel.percent ? `${+(100 * value).toPrecision(4)} %` : `${+value.toPrecision(3)}`;
  const legend = element("div", { className: "legend" });
  const outputs = panel.curves.map((curve, number) => {
    const value = element("output");
    const label = curve.mean ? curve.label : `${curve.label} (each run)`;
    const button = element("button", { type: "button" }, swatch(curve), label, " ", value);
    button.setAttribute("aria-pressed", "true");
    button.addEventListener("click", () => {
      const show = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(show));
      own[number].forEach((series) => chart.setSeries(series, { show }));
    });
    legend.append(button);
    return value;
  });
  const epoch = element("output");
  legend.append(epoch);
  const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
  const options = {
    width: 300, height: 260, legend: { show: false }, series, bands,
    cursor: { y: false, sync: { key: sync }, drag: { x: true, y: false } },
    scales: { x: { time: false }, y: { distr: panel.log ? 3 : 1 } },
    axes: [
      { ...axis, label: "epoch", labelSize: 18, size: 34, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000] },
      { ...axis, label: panel.quantity + (panel.log ? ", log scale" : ""), labelSize: 18, size: 62,
        values: (_, ticks) => ticks.map((tick) => tick == null ? "" :
          panel.percent ? `${+(100 * tick).toPrecision(4)} %` : `${+tick.toPrecision(4)}`) },
    ],
    hooks: { setCursor: [(chart) => {
      const index = chart.cursor.idx;
      epoch.value = index == null ? "" : `epoch ${data[0][index]}`;
      outputs.forEach((output, number) => {
        const curve = panel.curves[number];
        const values = curve.mean ? [curve.mean] : curve.runs;
        output.value = index == null ? "" : values.map((each) => format(each[index])).join(", ");
      });
    }] },
  };
  const box = element("div");
  place.append(box, legend);
  const chart = new uPlot(options, data, box);
  const resize = (width) => chart.setSize({ width, height: Math.round(Math.min(340, 0.6 * width + 50)) });
  return { chart, box, resize };
}

const charts = [...document.querySelectorAll("figure.chart")].flatMap((figure, number) => {
  const panels = JSON.parse(figure.querySelector("script").textContent);
  const place = figure.querySelector(".plots");
  place.replaceChildren();
  return panels.map((panel) => draw(place, panel, `figure ${number}`));
});
const fit = () => charts.forEach((each) => each.resize(Math.max(200, each.box.clientWidth)));
let width = 0;
new ResizeObserver(() => {
  if (width !== document.body.clientWidth) { width = document.body.clientWidth; fit(); }
}).observe(document.body);
fit();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", fit);
// Two figures beside each other on A4.
addEventListener("beforeprint", () => charts.forEach((each) => each.resize(335)));
addEventListener("afterprint", fit);
for (const table of document.querySelectorAll("table")) { sortable(table); filterable(table); }
