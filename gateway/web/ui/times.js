// Moments in the reader's own time zone, ages that grow while one looks.

const LONG = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const EXACT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const SHORT = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const EVERY_MS = 20_000;
let clock = null;

export function tellTimes() {
  for (const element of document.querySelectorAll("time[datetime]")) {
    const moment = new Date(element.dateTime);
    if (Number.isNaN(moment.getTime())) continue;
    element.title = LONG.format(moment);
    const style = element.dataset.style;
    element.textContent = style === "age" ? age(moment) : (style === "exact" ? EXACT : SHORT).format(moment);
  }
  clock ??= setInterval(tellTimes, EVERY_MS);
}

function age(moment) {
  const seconds = (Date.now() - moment.getTime()) / 1000;
  if (seconds < -60) return SHORT.format(moment);
  if (seconds < 60) return "now";
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h`;
  if (seconds < 7 * 86_400) return `${Math.floor(seconds / 86_400)} d`;
  return new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" }).format(moment);
}
