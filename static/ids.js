/** An id that nobody else has; also where the page is not in a secure context. */
export const newId = () => Array.from(crypto.getRandomValues(new Uint32Array(3)), (n) => n.toString(36)).join("");
