// Charts over the vendored library: one function a picture, each handed plain data from the API.

const SHAPES = { healthy: "solid", pathological: "dashed", inconclusive: "dotted" };
const live = new Set();

export const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
export const colour = (verdict) =>
  css({ healthy: "--healthy", pathological: "--pathological", inconclusive: "--inconclusive" }[verdict] || "--failed");
const ARMS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c6d31", "#7a7ad0", "#999999"];

// A chart in an element; it is drawn again when the theme or the width changes.
export function draw(target, make, onClick) {
  const chart = window.echarts.init(target, null, { renderer: "canvas" });
  const entry = { chart, target, make };
  chart.setOption(base(make()));
  if (onClick) chart.on("click", onClick);
  live.add(entry);
  new ResizeObserver(() => chart.resize()).observe(target);
  return chart;
}

export function forget() {
  for (const { chart } of live) chart.dispose();
  live.clear();
}

export function redraw() {
  for (const { chart, make } of live) chart.setOption(base(make()), true);
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

// Curves of a signal. `by`: "label" draws single trials, "arm" draws medians with their bands.
export function curves(data, by, logarithmic) {
  const series = by === "arm" ? armSeries(data) : trialSeries(data);
  const lines = data.references.map((one, i) => ({
    yAxis: one.value,
    name: one.text,
    label: { formatter: `${one.text.split(":")[0]} ${one.low === one.high ? short(one.value) : `${short(one.low)} … ${short(one.high)}`}`, position: i % 2 ? "insideMiddleTop" : "insideEndTop", color: css("--note") },
  }));
  if (series.length && lines.length) {
    series[0].markLine = { silent: false, symbol: "none", lineStyle: { color: css("--note"), type: [2, 4], width: 1.5 }, data: lines };
  }
  const names = by === "arm" ? data.arms.map((one) => one.arm) : ["healthy", "pathological", "inconclusive", "failed"].filter((name) => series.some((one) => one.name === name));
  return {
    legend: { type: "scroll", top: 0, data: names, textStyle: { color: css("--ink") }, pageTextStyle: { color: css("--ink") } },
    grid: { left: 12, right: 24, top: 44, bottom: 56, containLabel: true },
    xAxis: axis({ type: "value", name: "epoch", nameLocation: "middle", nameGap: 26, min: "dataMin", max: "dataMax", splitLine: { show: false } }),
    yAxis: axis({ type: logarithmic ? "log" : "value", name: data.signal, scale: true, axisLabel: { formatter: short, color: css("--note"), showMinLabel: !lines.length, showMaxLabel: !lines.length }, ...(lines.length && !logarithmic ? reach(data.references) : {}) }),
    dataZoom: [{ type: "inside", filterMode: "none" }, { type: "slider", height: 16, bottom: 6, filterMode: "none", textStyle: { color: css("--note") } }],
    tooltip: { trigger: "item", formatter: (one) => one.data.words || one.name || one.seriesName },
    series,
  };
}

// A reference line out of sight is of no use: the axis reaches as far as those do that are not
// fifty times as far away as the curves are high.
function reach(references) {
  const ends = (seen) => {
    const far = 50 * (seen.max - seen.min);
    const near = references.map((one) => one.value).filter((value) => value > seen.min - far && value < seen.max + far);
    const [low, high] = [Math.min(seen.min, ...near), Math.max(seen.max, ...near)];
    return { low, high, air: 0.04 * (high - low || 1) };
  };
  return { min: (seen) => ends(seen).low - ends(seen).air, max: (seen) => ends(seen).high + ends(seen).air };
}

function trialSeries(data) {
  return data.lines.map((line) => {
    const words = `${line.arm}, seed ${line.seed}\n${line.verdict}${line.pathology ? `: ${line.pathology}` : ""}`;
    const points = line.epochs.map((epoch, i) => ({ value: [epoch, finite(line.values[i])], words: `${words}\nepoch ${epoch}: ${line.values[i]}`, trial: line.trial_id }));
    const onset = points.find((point) => point.value[0] === line.onset_epoch && point.value[1] !== null);
    const known = ["healthy", "pathological", "inconclusive"].includes(line.verdict) ? line.verdict : "failed";
    return {
      type: "line",
      name: known,
      data: points,
      showSymbol: false,
      triggerLineEvent: true,
      lineStyle: { color: colour(known), type: SHAPES[known] || "dotted", width: 1.4, opacity: 0.8 },
      itemStyle: { color: colour(known) },
      emphasis: { lineStyle: { width: 3 } },
      markPoint: onset && {
        symbol: "triangle",
        symbolSize: 11,
        itemStyle: { color: colour(known), borderColor: css("--page"), borderWidth: 1 },
        label: { show: false },
        data: [{ coord: onset.value, name: "onset" }],
        tooltip: { formatter: () => `${words}\nbegan at epoch ${line.onset_epoch}` },
      },
    };
  });
}

// A band that reaches to infinity is drawn to the edge of what is finite; its words say infinity.
function armSeries(data) {
  const known = data.arms.flatMap((arm) => [...arm.low, ...arm.middle, ...arm.high]).filter((value) => finite(value) !== null);
  const [bottom, top] = [Math.min(...known, Infinity), Math.max(...known, -Infinity)];
  const inside = (value) => (value === "Infinity" ? top : value === "-Infinity" ? bottom : value);
  return data.arms.flatMap((arm, i) => {
    const paint = ARMS[i % ARMS.length];
    const at = (values) => arm.epochs.map((epoch, k) => [epoch, values[k]]);
    const band = { type: "line", stack: `band ${arm.arm}`, showSymbol: false, silent: true, lineStyle: { opacity: 0 }, tooltip: { show: false } };
    const lost = (k) => (arm.not_finite[k] ? `, ${arm.not_finite[k]} of them NaN or infinite` : "");
    const words = (k) => `${arm.arm}\nepoch ${arm.epochs[k]}: median ${said(arm.middle[k])}\n80 % in ${said(arm.low[k])} … ${said(arm.high[k])}, n ${arm.n[k]}${lost(k)}`;
    return [
      { type: "line", name: arm.arm, data: arm.epochs.map((epoch, k) => ({ value: [epoch, inside(arm.middle[k])], words: words(k) })), showSymbol: false, triggerLineEvent: true, lineStyle: { color: paint, width: 2.4 }, itemStyle: { color: paint } },
      { ...band, data: at(arm.low.map(inside)), stackStrategy: "all" },
      { ...band, data: arm.epochs.map((epoch, k) => [epoch, inside(arm.high[k]) - inside(arm.low[k])]), areaStyle: { color: paint, opacity: 0.13 }, stackStrategy: "all" },
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

// Forest of effects: the paired difference with its interval; where there is none, a word says so.
export function forest(rows, signal) {
  const names = rows.map((one) => one.name);
  const label = { color: css("--note"), width: 240, overflow: "truncate" };
  const drawn = rows.map((one, i) => [i, one.mean, one.low, one.high, one.better]).filter((one) => one[1] !== null);
  return {
    // containLabel knows the labels of one axis only: the room for names is worked out
    grid: { left: 24 + Math.min(240, 7 * Math.max(...names.map((one) => one.length))), right: 120, top: 16, bottom: 44 },
    xAxis: axis({ type: "value", name: `difference in ${signal} to the baseline, 95 % interval`, nameLocation: "middle", nameGap: 28, scale: false, axisLabel: { formatter: short, color: css("--note"), hideOverlap: true } }),
    yAxis: [
      axis({ type: "category", data: names, inverse: true, splitLine: { show: false }, axisLabel: label }),
      axis({ type: "category", data: rows.map((one) => one.health), inverse: true, position: "right", splitLine: { show: false }, axisTick: { show: false }, axisLine: { show: false } }),
    ],
    tooltip: { formatter: (one) => rows[one.value[0]].words },
    series: [{
      type: "custom",
      data: drawn,
      encode: { x: [1, 2, 3], y: 0 },
      renderItem: (_, api) => {
        const row = rows[api.value(0)];
        const [x, y] = api.coord([api.value(1), api.value(0)]);
        const [low] = api.coord([api.value(2), api.value(0)]);
        const [high] = api.coord([api.value(3), api.value(0)]);
        const paint = colour(row.tone);
        const line = (x1, x2, y1, y2) => ({ type: "line", shape: { x1, x2, y1, y2 }, style: { stroke: paint, lineWidth: 2 } });
        return { type: "group", children: [line(low, high, y, y), line(low, low, y - 5, y + 5), line(high, high, y - 5, y + 5), { type: "circle", shape: { cx: x, cy: y, r: 5 }, style: { fill: paint } }] };
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
  const groups = ["healthy", "inconclusive", "pathological", "failed"];
  const known = (one) => (groups.includes(one.verdict) ? one.verdict : "failed");
  const axes = data.axes.map((one, dim) => ({ dim, name: one.factor, type: "category", data: one.names }));
  // levels stay readable where all lines meet: on a ground of their own, above the lines
  const levels = { color: css("--ink"), backgroundColor: css("--page"), padding: [1, 3], borderRadius: 2 };
  return {
    legend: { top: 0, data: groups.filter((name) => data.trials.some((one) => known(one) === name)), textStyle: { color: css("--ink") } },
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
  const last = ["inconclusive", "failed", "stopped", "pruned", "cancelled"];
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
