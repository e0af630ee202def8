// @ts-check
// Draws charts by day with uPlot, in the colours of the style sheet.

import uPlot from "../../vendor/uplot/uPlot.esm.js";
import { shortText, timeRange, stacked } from "./numbers.mjs";

/** @typedef {import("./numbers.mjs").Series} Series */
/** @typedef {{ days: string[], series: Series[], isStacked: boolean, text?: (value: number) => string }} Chart `text` formats the ticks of the y axis */

const HEIGHT = 220;
const COLOURS = 9;

/** The colours of the style sheet, resolved for a canvas. */
function palette() {
  const parent = /** @type {HTMLElement} */ (document.getElementById("palette"));
  const colour = (/** @type {string} */ name) => {
    const probe = document.createElement("span");
    probe.className = name;
    parent.append(probe);
    const resolved = getComputedStyle(probe).color;
    probe.remove();
    return resolved;
  };
  return { ink: colour("tone-ink"), line: colour("tone-line"), series: Array.from({ length: COLOURS }, (_, at) => colour(`tone-${at}`)) };
}

/**
 * @param {HTMLElement} el
 * @param {Chart} chart
 * @returns {{ redraw: () => void }}
 */
export function draw(el, { days, series, isStacked, text = shortText }) {
  /** @type {any} */
  let plot = null;

  function redraw() {
    plot?.destroy();
    const { ink, line, series: colours } = palette();
    const values = isStacked ? stacked(series) : series.map((each) => each.values);
    const drawn = series.map((each, at) => ({
      label: each.label,
      stroke: colours[at % COLOURS],
      width: isStacked ? 0 : 2,
      fill: isStacked ? colours[at % COLOURS] : undefined,
      paths: isStacked ? uPlot.paths.bars({ size: [0.7, 40] }) : undefined,
      points: { show: !isStacked && days.length < 3 },
    }));
    const order = series.map((_, at) => at);
    if (isStacked) order.reverse(); // uPlot draws the first series at the back, so the highest sums come first
    const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: "12px system-ui, sans-serif" };
    plot = new /** @type {any} */ (uPlot)(
      {
        width: el.clientWidth,
        height: HEIGHT,
        tzDate: (/** @type {number} */ at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"),
        legend: { show: false },
        cursor: { show: false },
        scales: { y: { range: (/** @type {any} */ _plot, /** @type {number} */ _low, /** @type {number} */ high) => [0, high > 0 ? high * 1.08 : 1] },
          x: { range: () => timeRange(days) } },
        axes: [{ ...axis, grid: { show: false }, size: 34, space: 70, incrs: [86_400, 7 * 86_400, 28 * 86_400, 91 * 86_400, 364 * 86_400],
          values: (/** @type {any} */ _plot, /** @type {number[]} */ ticks) => ticks.map(dayText) },
        { ...axis, size: 68, values: (/** @type {any} */ _plot, /** @type {number[]} */ ticks) => ticks.map(text) }],
        series: [{}, ...order.map((at) => drawn[at])],
      },
      [days.map((day) => Date.parse(day) / 1000), ...order.map((at) => values[at])],
      el,
    );
  }

  redraw();
  return { redraw };
}

/** @param {number} seconds */
function dayText(seconds) {
  return new Date(seconds * 1000).toLocaleDateString("en", { day: "numeric", month: "short", timeZone: "UTC" });
}
