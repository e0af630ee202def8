// The report's pure parts: text, series, tables and CSV from the gateway's figures.
import assert from "node:assert/strict";
import { test } from "node:test";

import { chartDays, conversationSeries, csvOf, daysBetween, dollarText, queryOf, shareText, shortText, stacked, tableByDay, timeRange, timeText, valuesOf } from "../../static/scripts/report/numbers.mjs";

test("no text of a CSV is a formula, and numbers stay numbers", () => {
  const rows = [["=1+1", -3], ["+1", null], ["-1", 0.5], ["@sum", 1], [" =1", 1], ["\t=1", 1], ['a "b", c', 1], ["a\nb", 1], ["Änne", 1]];
  assert.equal(
    csvOf({ columns: ["=User", "Calls"], rows }),
    "\"'=User\",Calls\r\n\"'=1+1\",-3\r\n\"'+1\",\r\n\"'-1\",0.5\r\n\"'@sum\",1\r\n\"' =1\",1\r\n\"'\t=1\",1\r\n\"a \"\"b\"\", c\",1\r\n\"a\nb\",1\r\nÄnne,1\r\n",
  );
});

test("days without a call are in the series", () => {
  assert.deepEqual(daysBetween("2026-02-27", "2026-03-01"), ["2026-02-27", "2026-02-28", "2026-03-01"]);
  assert.deepEqual(valuesOf([{ day: "2026-02-28", calls: 3 }], ["2026-02-27", "2026-02-28"], "calls"), [0, 3]);
  const report = { from: "1990-01-01", to: "2026-03-01", days: [{ day: "2026-02-28" }] };
  assert.deepEqual(chartDays(report), ["2026-02-28", "2026-03-01"]);
  assert.deepEqual(chartDays({ ...report, days: [] }), ["2026-03-01"]);
});

test("the time axis covers its days, also a single one", () => {
  const noon = (day) => Date.parse(`${day}T12:00Z`) / 1000;
  assert.deepEqual(timeRange(["2026-02-28"]), [noon("2026-02-27"), noon("2026-02-28")]);
  assert.deepEqual(timeRange(["2026-02-27", "2026-02-28"]), [noon("2026-02-26"), noon("2026-02-28")]);
});

test("conversations have a series per user, in descending order and with others last", () => {
  const row = (user_name, day, conversations) => ({ user_name, day, conversations });
  const series = conversationSeries({ conversations_by_day: [row(null, "1", 9), row("ann", "1", 1), row("bob", "1", 1), row("bob", "2", 1)] }, ["1", "2"]);
  assert.deepEqual(series, [{ label: "bob", values: [1, 1] }, { label: "ann", values: [1, 0] }, { label: "Others", values: [9, 0] }]);
  assert.deepEqual(stacked(series), [[1, 1], [2, 1], [11, 1]]);
  assert.deepEqual(tableByDay(["1", "2"], series).rows, [["1", 1, 1, 9], ["2", 1, 0, 0]]);
});

test("unknown values have a text, not a zero", () => {
  assert.equal(dollarText(null), "not known");
  assert.equal(dollarText(0.00123), "$0.0012");
  assert.equal(dollarText(1234.5), "$1,234.50");
  assert.equal(shareText(1, 0), "–");
  assert.equal(shareText(1, 3), "33.3 %");
  assert.equal(timeText(812), "812 ms");
  assert.equal(timeText(2981), "3.0 s");
});

test("only filters that are set are in the query", () => {
  assert.equal(queryOf({ from: "2026-01-01", user: "", title: "a&b" }), "from=2026-01-01&title=a%26b");
});

test("ticks of an axis have short labels", () => {
  assert.deepEqual([250_000, 1_250_000, 18_836_000].map(shortText), ["250K", "1.25M", "18.8M"]);
});
