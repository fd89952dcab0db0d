/**
 * What a lesson is to this page, read from either of the two documents that a session can be. Pure.
 *
 * @typedef {{id: string, room: string, kind: "booking" | "course", title: string, with: string, startsAt: ?string,
 *            endsAt: ?string, status: "scheduled" | "live" | "ended", hostId: ?string, studentId: ?string, otherIds: string[],
 *            settings: Settings, pinnedId: ?string}} Lesson
 * @typedef {{locked: boolean, waitingRoom: boolean, chatMuted: boolean, slowModeSeconds: number,
 *            recordingConsent: boolean}} Settings  what the host sets
 */

/** The settings in a session's document or in `sessionSettings`. @returns {Settings} */
export function readSettings({ locked = false, waitingRoom = false, chatMuted = false, slowModeSeconds = 0, recordingConsent = false }) {
  return { locked, waitingRoom, chatMuted, slowModeSeconds, recordingConsent };
}

/**
 * @param document the `session` of joinSession's ack.
 * @param {?Lesson} known what the page knew before: a title and names from the list of lessons outlive a rejoin.
 */
export function readSession(document, known = null) {
  const booking = document.kind === "booking";
  return {
    id: document.session_id,
    room: document.room_name,
    kind: document.kind,
    title: document.title ?? known?.title ?? "",
    with: known?.with ?? "",
    startsAt: (booking ? document.start_time : document.startsAt) ?? null,
    endsAt: (booking ? document.end_time : document.endsAt) ?? null,
    // Changes are told by their events; join() in state.js has the last word.
    status: known?.status ?? document.status,
    settings: known?.settings ?? readSettings(document),
    pinnedId: known ? known.pinnedId : document.pinnedMessageId ?? null,
    hostId: (booking ? document.teacher_id : document.createdBy) ?? null,
    studentId: booking ? document.student_id ?? null : null,
    otherIds: booking ? [document.teacher_id, document.student_id].filter(Boolean) : [],
  };
}

/** The lesson's name, with something sensible where it has none. */
export function titleOf(lesson) {
  if (!lesson) return "Lesson";
  return lesson.title || (lesson.with ? `Lesson with ${lesson.with}` : lesson.kind === "course" ? "Live class" : "Lesson");
}
