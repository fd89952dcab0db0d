/** The lesson as one film: everybody's pictures beside each other, and all their voices. */

const NAME_SHARE = 1 / 18; //  of a picture's height
const INK = "#f2f5f3";
const GROUND = "#161c19";
const TILE = "#2c3631";
const ACTS = ["pointerdown", "keydown"];
const SILENT_MS = 1_500; //    after which a browser that wants a click first has not begun to play
const MUTE_MS = 5_000; //      after a click, of a browser that has nothing to play sound with: some mix none then
const CLICK = "Click anywhere in this page: before that, your browser records nothing.";
const MUTE = "The film has no sound: your browser mixes none without speakers or headphones.";

/** Where `count` pictures stand in a picture of that size: as many columns as make them largest. Pure. */
export function grid(count, width, height) {
  let best = { columns: 1, area: 0 };
  for (let columns = 1; columns <= count; columns += 1) {
    const wide = Math.min(width / columns, (height / Math.ceil(count / columns)) * (16 / 9));
    if (wide > best.area) best = { columns, area: wide };
  }
  const { columns } = best;
  const rows = Math.ceil(count / columns);
  return Array.from({ length: count }, (_, at) => {
    const row = Math.floor(at / columns);
    const inRow = row === rows - 1 ? count - columns * row : columns;
    const w = width / columns;
    const h = height / rows;
    return { x: (width - inRow * w) / 2 + (at % columns) * w, y: row * h, w, h };
  });
}

/** The part of a source that fills a place without being distorted; all of it, with bars, where `whole`. Pure. */
export function fit(source, place, whole) {
  const scale = (whole ? Math.min : Math.max)(place.w / source.w, place.h / source.h);
  const w = Math.min(source.w, place.w / scale);
  const h = Math.min(source.h, place.h / scale);
  return {
    from: { x: (source.w - w) / 2, y: (source.h - h) / 2, w, h },
    to: { x: place.x + (place.w - w * scale) / 2, y: place.y + (place.h - h * scale) / 2, w: w * scale, h: h * scale },
  };
}

/**
 * A stream of what `scene()` says is seen and heard, drawn anew all the time.
 *
 * @param {() => {pictures: {element: HTMLVideoElement, name: string, screen: boolean}[], names: string[], sounds: MediaStreamTrack[]}} scene
 * @param {{warn: (sentence: string) => void}} more `warn`: something is missing that the person can mend
 * @returns {{stream: MediaStream, close: () => void}}
 */
export function openPicture(scene, { warn, width = 1280, height = 720, rate = 12 }) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const pen = canvas.getContext("2d", { alpha: false });
  const sound = new AudioContext();
  const mix = sound.createMediaStreamDestination();
  const sources = new Map(); // track → its node
  const ticks = new Worker("/static/ticks.js"); // a page in the background has no timers of its own that keep time

  function label(name, { x, y, h }) {
    const size = Math.max(14, h * NAME_SHARE);
    pen.font = `600 ${size}px system-ui, sans-serif`;
    pen.fillStyle = "rgb(12 18 15 / 68%)";
    pen.fillRect(x + 8, y + h - size * 1.9, pen.measureText(name).width + size, size * 1.6);
    pen.fillStyle = INK;
    pen.fillText(name, x + 8 + size / 2, y + h - size * 0.75);
  }

  function draw() {
    const { pictures, names, sounds } = scene();
    pen.fillStyle = GROUND;
    pen.fillRect(0, 0, width, height);
    const places = grid(pictures.length + names.length, width, height).map(({ x, y, w, h }) => ({ x: x + 4, y: y + 4, w: w - 8, h: h - 8 }));
    for (const [at, place] of places.entries()) {
      const { element, name, screen } = pictures[at] ?? { element: null, name: names[at - pictures.length], screen: false };
      pen.fillStyle = TILE;
      pen.fillRect(place.x, place.y, place.w, place.h);
      if (element?.videoWidth) {
        const { from, to } = fit({ w: element.videoWidth, h: element.videoHeight }, place, screen);
        pen.drawImage(element, from.x, from.y, from.w, from.h, to.x, to.y, to.w, to.h);
      }
      label(name, place);
    }
    mixIn(sounds);
  }

  function mixIn(tracks) {
    for (const track of tracks) {
      if (sources.has(track)) continue;
      const node = sound.createMediaStreamSource(new MediaStream([track]));
      node.connect(mix);
      sources.set(track, node);
    }
    for (const [track, node] of sources) {
      if (tracks.includes(track)) continue;
      node.disconnect();
      sources.delete(track);
    }
  }

  /** A page that was reloaded may not play a sound before it is clicked. */
  function resume() {
    if (sound.state !== "running" && sound.state !== "closed") sound.resume().catch(() => {});
  }

  const missing = [CLICK, MUTE]; // that has not been said
  let silent = 0;

  function listen(patience) {
    clearTimeout(silent);
    silent = setTimeout(() => sound.state !== "running" && warn(missing.shift()), patience);
  }

  function acted() {
    resume();
    if (missing[0] === MUTE) listen(MUTE_MS);
  }

  let instead = 0;
  ticks.onmessage = draw;
  ticks.onerror = () => { instead ||= setInterval(draw, 1_000 / rate); };
  ticks.postMessage(1_000 / rate);
  sound.onstatechange = resume;
  for (const act of ACTS) addEventListener(act, acted, true);
  resume();
  listen(SILENT_MS);
  draw();
  const stream = new MediaStream([...canvas.captureStream(rate).getVideoTracks(), ...mix.stream.getAudioTracks()]);

  return {
    stream,
    close() {
      ticks.terminate();
      clearInterval(instead);
      clearTimeout(silent);
      for (const act of ACTS) removeEventListener(act, acted, true);
      for (const track of stream.getTracks()) track.stop();
      sound.close();
    },
  };
}
