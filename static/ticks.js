/** A worker that keeps time: it says something every so many milliseconds, as it was told. */

onmessage = ({ data }) => setInterval(() => postMessage(null), data);
