// Charts over the vendored library: one function a picture, each handed plain data from the API.

import { armName } from "./dom.js";
import { kindOf, NAMES, VERDICTS } from "./verdicts.js";

const live = new Set();

export const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
export const colour = (verdict) => css(`--${kindOf(verdict)}`);
const ARMS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c6d31", "#7a7ad0", "#999999"];
const NARROW = 560; // pixels, below which words stand above what they name

// A chart in an element; it is drawn again when the theme or the width changes, or by `update`.
export function draw(target, make, onClick) {
  const chart = window.echarts.init(target, null, { renderer: "canvas" });
  const entry = { chart, make: () => base(make(target.clientWidth < NARROW)) };
  chart.setOption(entry.make());
  if (onClick) chart.on("click", onClick);
  live.add(entry);
  let width = target.clientWidth;
  new ResizeObserver(() => {
    if (chart.isDisposed()) return;
    chart.resize();
    if (target.clientWidth < NARROW !== width < NARROW) update(chart);
    width = target.clientWidth;
  }).observe(target);
  return chart;
}

// Draw with the present data; where a person has zoomed to stays. Axes are replaced, as their kind may change.
export function update(chart) {
  for (const entry of live) {
    if (entry.chart === chart) chart.setOption(entry.make(), { replaceMerge: ["series", "xAxis", "yAxis"] });
  }
}

export function forget() {
  for (const { chart } of live) chart.dispose();
  live.clear();
}

export function redraw() {
  for (const { chart } of live) update(chart);
}

function base(option) {
  const ink = css("--ink");
  return {
    animation: false,
    backgroundColor: "transparent",
    textStyle: { color: ink, fontFamily: "system-ui, sans-serif" },
    aria: { enabled: true },
    ...option,
    // the page's policy allows no inline styles, which tooltips in HTML would need
    tooltip: {
      renderMode: "richText",
      confine: true,
      backgroundColor: css("--soft"),
      borderColor: css("--grid"),
      textStyle: { color: ink, fontSize: 12 },
      ...option.tooltip,
    },
  };
}

const axis = (more) => ({
  axisLine: { lineStyle: { color: css("--grid") } },
  axisLabel: { color: css("--note"), hideOverlap: true },
  nameTextStyle: { color: css("--note") },
  splitLine: { lineStyle: { color: css("--grid"), opacity: 0.6 } },
  ...more,
});
const short = (value) => (Math.abs(value) >= 1e4 || (value !== 0 && Math.abs(value) < 1e-3) ? value.toExponential(1) : String(Number(value.toPrecision(3))));
const said = (value) => (typeof value === "number" ? short(value) : value);
const finite = (value) => (typeof value === "number" && Number.isFinite(value) ? value : null);

// Curves of a signal on the axes that the service chose for them (`frames`). `by`: "label" draws single
// trials, "arm" medians with their bands. `background`: other trials, drawn thin behind.
export function curves(data, { by = "label", log = data.frames.log_chosen, background = [], narrow = false } = {}) {
  const frame = (log && data.frames.log) || data.frames.linear;
  const series = by === "arm" ? armSeries(data, frame) : [...trialSeries(background, frame, true), ...trialSeries(data.lines, frame, false), ...edgeMarks(data.lines, frame)];
  const shown = data.references.map((one) => ({ ...one, value: (one.low + one.high) / 2 })).filter((one) => one.value >= frame.low && one.value <= frame.high);
  const references = shown.map((one, i) => ({
    yAxis: one.value,
    name: one.text,
    label: { formatter: `${narrow ? "" : `${one.text.split(":")[0]} `}${one.low === one.high ? short(one.value) : `${short(one.low)} … ${short(one.high)}`}`, position: i % 2 ? "insideMiddleTop" : "insideEndTop", color: css("--note") },
  }));
  if (series.length && references.length) {
    series.at(-1).markLine = { silent: false, symbol: "none", lineStyle: { color: css("--note"), type: [2, 4], width: 1.5 }, data: references };
  }
  const names = by === "arm" ? data.arms.map((one) => one.arm) : NAMES.filter((name) => data.lines.some((one) => kindOf(one.verdict) === name));
  const zero = (value) => (frame.zero !== null && value <= frame.zero * 1.01 ? "0" : short(value));
  return {
    legend: { type: "scroll", top: 0, data: names, formatter: armName, itemWidth: 34, textStyle: { color: css("--ink") }, pageTextStyle: { color: css("--ink") } },
    grid: { left: 12, right: 24, top: 44, bottom: 62, containLabel: true },
    xAxis: axis({ type: "value", name: "epoch", nameLocation: "middle", nameGap: 24, min: frame.first, max: Math.max(frame.last, frame.first + 1), minInterval: 1, splitNumber: narrow ? 4 : 8, splitLine: { show: false }, axisLabel: { color: css("--note"), hideOverlap: true, formatter: (value) => (Number.isInteger(value) ? String(value) : "") } }),
    yAxis: axis({ type: log && data.frames.log ? "log" : "value", min: frame.low, max: frame.high, axisLabel: { formatter: zero, color: css("--note"), showMinLabel: frame.zero !== null, showMaxLabel: false, hideOverlap: true } }),
    dataZoom: [{ type: "inside", filterMode: "none" }, { type: "slider", height: 16, bottom: 6, filterMode: "none", textStyle: { color: css("--note") } }],
    tooltip: { trigger: "item", formatter: (one) => one.data.words || one.name || one.seriesName },
    series,
  };
}

const inside = (value, frame) => Math.min(Math.max(value, frame.zero === null ? frame.low : frame.zero), frame.high);
// A zero has a place of its own on a logarithmic axis; what is no number leaves a gap.
const place = (value, frame) => (finite(value) === null ? null : frame.zero !== null && value === 0 ? frame.zero : value);
const lineWords = (line) => `${armName(line.arm)}, seed ${line.seed}\n${line.verdict}${line.pathology ? `: ${line.pathology}` : ""}`;

function trialSeries(lines, frame, behind) {
  return lines.map((line) => {
    const kind = kindOf(line.verdict);
    const points = line.epochs.map((epoch, i) => ({ value: [epoch, place(line.values[i], frame)], words: `${lineWords(line)}\nepoch ${epoch}: ${line.values[i]}`, trial: line.trial_id }));
    const onset = !behind && points.find((point) => point.value[0] === line.onset_epoch && point.value[1] !== null);
    return {
      type: "line",
      name: kind,
      data: points,
      showSymbol: points.length === 1,
      symbol: "circle",
      symbolSize: 5,
      triggerLineEvent: true,
      z: behind ? 1 : 2,
      lineStyle: { color: colour(kind), type: VERDICTS[kind].dashes, width: behind ? 1 : 1.6, opacity: behind ? 0.22 : 0.85 },
      itemStyle: { color: colour(kind) },
      emphasis: { lineStyle: { width: 3 } },
      markPoint: onset && {
        symbol: "triangle",
        symbolRotate: 180,
        symbolSize: 11,
        itemStyle: { color: colour(kind), borderColor: css("--page"), borderWidth: 1 },
        label: { show: false },
        data: [{ coord: [onset.value[0], inside(onset.value[1], frame)], name: "onset" }],
        tooltip: { formatter: () => `${lineWords(line)}\nbegan at epoch ${line.onset_epoch}` },
      },
    };
  });
}

// As in the report: × where a curve stops being a number, ▲ where it leaves the picture.
function edgeMarks(lines, frame) {
  const low = frame.zero === null ? frame.low : 0;
  const marks = lines.flatMap((line) => {
    const at = (test, words, symbol) => {
      const i = line.values.findIndex(test);
      if (i < 0) return [];
      const up = !(line.values[i] < low);
      return [{ value: [line.epochs[i], up ? frame.high : frame.low], symbol, symbolOffset: [0, up ? 6 : -6], itemStyle: { color: colour(line.verdict), borderColor: colour(line.verdict), borderWidth: symbol === CROSS ? 2 : 0 }, words: `${lineWords(line)}\n${words} epoch ${line.epochs[i]}: ${line.values[i]}`, trial: line.trial_id }];
    };
    return [
      ...at((value) => finite(value) === null, "not finite from", CROSS),
      ...at((value) => finite(value) !== null && (value > frame.high || value < low), "outside the axes from", "triangle"),
    ];
  });
  return [{ type: "scatter", name: "marks", data: marks, symbolSize: 9, clip: false, z: 4 }];
}
const CROSS = "path://M0,0L10,10M10,0L0,10";

// A band that reaches to infinity is drawn to the edge of the picture; its words say infinity.
function armSeries(data, frame) {
  return data.arms.flatMap((arm, i) => {
    const paint = ARMS[i % ARMS.length];
    const at = (values) => values.map((value) => inside(value, frame));
    const band = { type: "line", stack: `band ${arm.arm}`, stackStrategy: "all", showSymbol: false, silent: true, lineStyle: { opacity: 0 }, tooltip: { show: false } };
    const [low, high] = [at(arm.low), at(arm.high)];
    const lost = (k) => (arm.not_finite[k] ? `, ${arm.not_finite[k]} of them NaN or infinite` : "");
    const words = (k) => `${armName(arm.arm)}\nepoch ${arm.epochs[k]}: median ${said(arm.middle[k])}\n80 % in ${said(arm.low[k])} … ${said(arm.high[k])}, n ${arm.n[k]}${lost(k)}`;
    const line = (values) => arm.epochs.map((epoch, k) => [epoch, values[k]]);
    return [
      { ...band, data: line(low) },
      { ...band, data: line(high.map((value, k) => value - low[k])), areaStyle: { color: paint, opacity: 0.13 } },
      { type: "line", name: arm.arm, data: line(at(arm.middle)).map((value, k) => ({ value, words: words(k) })), showSymbol: arm.epochs.length === 1, triggerLineEvent: true, lineStyle: { color: paint, width: 2.4 }, itemStyle: { color: paint } },
    ];
  });
}

// Health by two factors: each cell says k of n, so that the colour is not alone.
export function healthMap(map) {
  return {
    grid: { left: 12, right: 24, top: 34, bottom: 70, containLabel: true },
    xAxis: axis({ type: "category", data: map.x.names, name: map.x.factor, nameLocation: "middle", nameGap: 30, axisLabel: { color: css("--note"), interval: 0, rotate: map.x.names.length > 6 ? 30 : 0 } }),
    yAxis: axis({ type: "category", data: map.y.names, name: map.y.factor }),
    visualMap: { min: 0, max: 1, dimension: 2, orient: "horizontal", left: "center", bottom: 0, text: ["all healthy", "none"], textStyle: { color: css("--ink") }, inRange: { color: ["#d55e00", "#f0c8a8", "#e8e8e4", "#8fd0ba", "#009e73"] } },
    tooltip: { formatter: (one) => `${map.x.factor} ${map.x.names[one.data.value[0]]}\n${map.y.factor} ${map.y.names[one.data.value[1]]}\nhealthy in ${one.data.value[3]} of ${one.data.value[4]}` },
    series: [{
      type: "heatmap",
      data: map.cells.map(([x, y, healthy, n]) => ({ value: [x, y, n ? healthy / n : 0, healthy, n] })),
      label: { show: map.cells.length <= 150, color: "#1a1a1a", formatter: (one) => `${one.data.value[3]}/${one.data.value[4]}` },
      itemStyle: { borderColor: css("--page"), borderWidth: 2 },
    }],
  };
}

// Forest of effects: the paired difference with its interval, coloured by the verdict after Holm's
// correction as in the table. On a narrow screen the level stands above its interval.
const TONES = { "✓": "healthy", "✗": "pathological" };
export function forest(data, narrow) {
  const rows = data.rows;
  const beyond = (value) => value < data.low || value > data.high;
  const clamp = (value) => Math.min(Math.max(value, data.low), data.high);
  const room = Math.min(240, 12 + 7 * Math.max(...rows.map((one) => one.name.length)));
  const label = (more) => ({ color: css("--ink"), ...more });
  return {
    // containLabel knows the labels of one axis only: the room for words is worked out
    grid: narrow ? { left: 10, right: 96, top: 20, bottom: 44 } : { left: room, right: 230, top: 20, bottom: 44 },
    xAxis: axis({ type: "value", min: data.low, max: data.high, splitNumber: narrow ? 3 : 5, name: narrow ? `difference in ${data.signal}` : `difference in ${data.signal} to the baseline, 95 % interval`, nameLocation: "middle", nameGap: 28, axisLabel: { formatter: short, color: css("--note"), hideOverlap: true, showMinLabel: false, showMaxLabel: false } }),
    yAxis: [
      axis({ type: "category", data: rows.map((one) => one.name), inverse: true, splitLine: { show: false }, axisTick: { show: false }, axisLabel: label({ show: !narrow, width: room - 12, overflow: "truncate" }) }),
      axis({ type: "category", data: rows.map((one) => (narrow ? `${one.sign} ${one.verdict}\n${one.healthy}` : `${one.sign} ${one.verdict} · ${one.healthy} healthy`)), inverse: true, position: "right", splitLine: { show: false }, axisTick: { show: false }, axisLine: { show: false }, axisLabel: label({ lineHeight: 15, width: narrow ? 88 : 222, overflow: narrow ? "break" : "truncate" }) }),
    ],
    tooltip: { formatter: (one) => rows[one.dataIndex]?.words || "" },
    series: [{
      type: "custom",
      clip: false,
      data: rows.map((one, i) => [i, one.mean ?? 0]),
      encode: { x: 1, y: 0 },
      renderItem: (_, api) => {
        const row = rows[api.value(0)];
        const at = (value) => api.coord([clamp(value), api.value(0)])[0];
        const y = api.coord([0, api.value(0)])[1] + (narrow ? 9 : 0);
        const paint = css(`--${TONES[row.sign] || "note"}`);
        const line = (x1, x2, y1, y2) => ({ type: "line", shape: { x1, x2, y1, y2 }, style: { stroke: paint, lineWidth: 2 } });
        const children = narrow ? [{ type: "text", style: { text: row.name, x: 10, y: y - 15, fill: css("--ink"), textVerticalAlign: "bottom", fontSize: 12, width: api.getWidth() - 116, overflow: "truncate" } }] : [];
        if (row.mean === null) return { type: "group", children: [...children, { type: "text", style: { text: "no pair is healthy", x: at(0) + 6, y, fill: css("--note"), textVerticalAlign: "middle", fontSize: 11 } }] };
        if (row.low !== null) {
          children.push(line(at(row.low), at(row.high), y, y));
          for (const end of [row.low, row.high]) if (!beyond(end)) children.push(line(at(end), at(end), y - 5, y + 5));
        }
        const [x, side] = [at(row.mean), row.mean > data.high ? 1 : -1];
        children.push(beyond(row.mean)
          ? { type: "polygon", shape: { points: [[x - 8 * side, y - 6], [x + 2 * side, y], [x - 8 * side, y + 6]] }, style: { fill: paint } }
          : { type: "circle", shape: { cx: x, cy: y, r: 5 }, style: { fill: paint } });
        return { type: "group", children };
      },
      markLine: { silent: true, symbol: "none", label: { show: false }, lineStyle: { color: css("--note"), type: "dashed" }, data: [{ xAxis: 0 }] },
    }],
  };
}

// Parallel coordinates; drag along an axis to brush.
export function parallel(data) {
  const numbers = data.trials.map((one) => one.objective).filter((value) => finite(value) !== null).sort((a, b) => a - b);
  // diverged trials would press all others onto one point: what lies far beyond the middle half is drawn at the end
  const at = (share) => numbers[Math.floor(share * (numbers.length - 1))];
  const top = numbers.length ? Math.min(numbers.at(-1), at(0.75) + 4 * Math.max(at(0.75) - at(0.25), 1e-12)) : 1;
  const cut = numbers.length && numbers.at(-1) > top;
  const known = (one) => kindOf(one.verdict);
  const groups = NAMES.filter((name) => data.trials.some((one) => known(one) === name));
  const axes = data.axes.map((one, dim) => ({ dim, name: one.factor, type: "category", data: one.names }));
  // levels stay readable where all lines meet: on a ground of their own, above the lines
  const levels = { color: css("--ink"), backgroundColor: css("--page"), padding: [1, 3], borderRadius: 2 };
  return {
    legend: { top: 0, data: groups, textStyle: { color: css("--ink") } },
    parallel: { left: 70, right: 90, top: 74, bottom: 24, parallelAxisDefault: axis({ z: 10, axisLabel: levels, nameTextStyle: { color: css("--ink") }, areaSelectStyle: { color: css("--link"), opacity: 0.25 } }) },
    parallelAxis: [
      ...axes,
      ...(numbers.length ? [{ dim: axes.length, name: `${data.objective || "objective"}${cut ? " (cut)" : ""}`, max: top, axisLabel: { ...levels, formatter: short } }] : []),
      { dim: axes.length + 1, name: "label", type: "category", data: groups },
    ],
    series: groups.map((name) => ({
      type: "parallel",
      name,
      smooth: 0.15,
      lineStyle: { color: colour(name), width: 1.2, opacity: Math.max(0.06, Math.min(0.7, 60 / data.trials.length)) },
      itemStyle: { color: colour(name) },
      data: data.trials.filter((one) => known(one) === name).map((one) => [
        ...one.places.map((place, i) => data.axes[i].names[place]),
        finite(one.objective) === null ? "-" : Math.min(one.objective, top),
        name,
      ]),
    })),
    tooltip: { show: false },
  };
}

// How the trials of every level ended: stacked shares.
export function causes(data) {
  const names = data.levels.map((one) => `${one.factor} ${one.level}`);
  const last = ["inconclusive", "unlabelled", "failed", "pruned", "cancelled"];
  const outcomes = [...new Set(data.levels.flatMap((one) => Object.keys(one.outcomes)))].sort((a, b) => (b === "healthy") - (a === "healthy") || last.indexOf(a) - last.indexOf(b));
  const hues = ["#d55e00", "#e69f00", "#cc79a7", "#56b4e9", "#8c6d31", "#7a7ad0", "#999933", "#882255"];
  const paint = (name, i) => (name === "healthy" ? css("--healthy") : last.includes(name) ? css("--failed") : hues[i % hues.length]);
  const totals = data.levels.map((one) => Object.values(one.outcomes).reduce((a, b) => a + b, 0));
  return {
    legend: { type: "scroll", top: 0, textStyle: { color: css("--ink") }, pageTextStyle: { color: css("--ink") } },
    grid: { left: 12, right: 24, top: 44, bottom: 30, containLabel: true },
    xAxis: axis({ type: "value", max: 100, axisLabel: { formatter: "{value} %", color: css("--note") } }),
    yAxis: axis({ type: "category", data: names, inverse: true, axisLabel: { color: css("--note"), interval: 0, width: 190, overflow: "truncate" } }),
    tooltip: { formatter: (one) => `${one.name}\n${one.seriesName}: ${one.data.n} of ${totals[one.dataIndex]}` },
    series: outcomes.map((name, i) => ({
      type: "bar",
      stack: "all",
      name,
      itemStyle: { color: paint(name, i), borderColor: css("--page"), borderWidth: 1 },
      data: data.levels.map((one, k) => ({ value: (100 * (one.outcomes[name] || 0)) / totals[k], n: one.outcomes[name] || 0 })),
    })),
  };
}
