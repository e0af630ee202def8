// @ts-check
// Times as text. Pure.

/**
 * @param {number} at in milliseconds
 * @param {number} now
 * @returns {string} the time of day; with the date, unless it is today
 */
export function timeText(at, now) {
  if (at === 0) return "–";
  const date = new Date(at);
  const time = date.toLocaleTimeString("en-GB");
  const isToday = date.toDateString() === new Date(now).toDateString();
  return isToday ? time : `${date.toLocaleDateString("en-GB", { day: "numeric", month: "short" })} ${time.slice(0, 5)}`;
}

/** @param {number} milliseconds */
export function durationText(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")} min`;
}
