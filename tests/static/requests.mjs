// XMLHttpRequest without a browser.

/** Has `send(request)` see each request: `{method, path, headers, body, upload, end}`. One that is not ended hangs. */
export function answerRequests(send) {
  globalThis.location = { href: "http://school.test/" };
  globalThis.XMLHttpRequest = class {
    headers = {};
    upload = {};
    status = 0;
    responseText = "";
    open(method, path) { Object.assign(this, { method, path }); }
    setRequestHeader(name, value) { this.headers[name] = value; }
    getResponseHeader(name) { return this.answered?.headers?.[name] ?? null; }
    abort() { this.end({ status: 0 }); }
    end(answered) {
      if (this.answered) return;
      Object.assign(this, { answered, status: answered.status, responseText: answered.text ?? "" });
      queueMicrotask(() => this.onloadend());
    }
    send(body) {
      this.body = body;
      send(this);
    }
  };
}
