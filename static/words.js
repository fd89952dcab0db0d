/**
 * How the page says times and names. Pure: everything takes `now` where it matters.
 */

const language = globalThis.navigator?.language ?? "en-GB";
const locale = language.startsWith("en") ? language : "en-GB";

const CLOCK = new Intl.DateTimeFormat(locale, { hour: "numeric", minute: "2-digit" });
const WEEKDAY = new Intl.DateTimeFormat(locale, { weekday: "long", day: "numeric", month: "long" });
const WITH_YEAR = new Intl.DateTimeFormat(locale, { day: "numeric", month: "long", year: "numeric" });
const FULL = new Intl.DateTimeFormat(locale, { dateStyle: "full", timeStyle: "short" });

const NUMBER = new Intl.NumberFormat(locale);

/** "6,000", as the reader's language has it. */
export const number = (value) => NUMBER.format(value);

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** "14:05" or "2:05 PM", as the reader's language has it. */
export const clock = (at) => CLOCK.format(new Date(at));

/** The whole date and time, for tooltips. */
export const fullTime = (at) => FULL.format(new Date(at));

/** A key that is equal for two times of one local day. */
export const dayKey = (at) => new Date(at).toDateString();

/** "Today", "Yesterday", "Tuesday 4 March", "4 March 2024". */
export function dayName(at, now) {
  const today = new Date(now);
  const yesterday = new Date(today.getFullYear(), today.getMonth(), today.getDate() - 1);
  const tomorrow = new Date(today.getFullYear(), today.getMonth(), today.getDate() + 1);
  if (dayKey(at) === dayKey(now)) return "Today";
  if (dayKey(at) === dayKey(yesterday)) return "Yesterday";
  if (dayKey(at) === dayKey(tomorrow)) return "Tomorrow";
  const date = new Date(at);
  return Math.abs(now - date) < 180 * DAY ? WEEKDAY.format(date) : WITH_YEAR.format(date);
}

/** "Today, 14:00 – 15:00"; without an end, "Today, 14:00". */
export function when(startsAt, endsAt, now) {
  if (!startsAt) return "";
  const start = `${dayName(startsAt, now)}, ${clock(startsAt)}`;
  if (!endsAt || endsAt === startsAt) return start;
  const sameDay = dayKey(startsAt) === dayKey(endsAt);
  return `${start} – ${sameDay ? clock(endsAt) : `${dayName(endsAt, now)}, ${clock(endsAt)}`}`;
}

const span = (ms) => {
  const minutes = Math.max(1, Math.round(ms / MINUTE));
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  const rest = minutes % 60;
  return rest ? `${hours} h ${rest} min` : `${hours} h`;
};

/** "10 s", "1 min", "1 min 30 s". */
export function seconds(count) {
  const minutes = Math.floor(count / 60);
  const rest = count % 60;
  return [minutes && `${minutes} min`, (rest || !minutes) && `${rest} s`].filter(Boolean).join(" ");
}

/** What is worth knowing about the time right now: "starts in 5 min", "20 min left", or "". */
export function remaining({ status, startsAt, endsAt }, now) {
  const toStart = startsAt ? new Date(startsAt) - now : null;
  const toEnd = endsAt ? new Date(endsAt) - now : null;
  if (status === "scheduled" && toStart !== null && toStart > 0 && toStart < 3 * HOUR) return `starts in ${span(toStart)}`;
  if (status === "live" && toEnd !== null && toEnd > 0 && toEnd < 3 * HOUR) return `${span(toEnd)} left`;
  return "";
}

/** "2:05", "1:02:05": how long a recording is. */
export function duration(count) {
  const parts = [Math.floor(count / 3_600), Math.floor(count / 60) % 60, Math.floor(count) % 60];
  return (parts[0] ? parts : parts.slice(1)).map((part, at) => (at ? String(part).padStart(2, "0") : part)).join(":");
}

const SIZES = ["bytes", "KB", "MB", "GB"];

/** "820 bytes", "4.2 MB". */
export function fileSize(bytes) {
  let at = 0;
  while (bytes >= 1_000 && at < SIZES.length - 1) [bytes, at] = [bytes / 1_000, at + 1];
  return `${number(bytes < 10 && at ? Math.round(bytes * 10) / 10 : Math.round(bytes))} ${SIZES[at]}`;
}

/** "Ana", "Ana and Ben", "Ana, Ben and 3 others". */
export function listNames(names, most = 3) {
  if (names.length <= 1) return names[0] ?? "";
  if (names.length > most) {
    const rest = names.length - (most - 1);
    return `${names.slice(0, most - 1).join(", ")} and ${rest} others`;
  }
  return `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}

/** "Ana is typing…", "Ana and Ben are typing…", or "". */
export function typingSentence(names) {
  if (names.length === 0) return "";
  return `${listNames(names)} ${names.length === 1 ? "is" : "are"} typing…`;
}

/** One or two letters that stand for a name. */
export function initials(name) {
  const words = (name ?? "").trim().split(/\s+/).filter(Boolean).filter((word) => !/^(mr|mrs|ms|dr|prof)\.?$/i.test(word));
  if (words.length === 0) return "?";
  const letters = words.length === 1 ? [words[0]] : [words[0], words.at(-1)];
  return letters.map((word) => [...word][0].toUpperCase()).join("");
}

export const STATUS_WORD = { scheduled: "Scheduled", live: "Live", ended: "Ended" };
export const ROLE_WORD = { teacher: "Teacher", student: "Student", parent: "Parent", admin: "Admin" };
