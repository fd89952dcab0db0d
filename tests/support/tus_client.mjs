// The stock tus-js-client, which sends a file and says on its output how it goes: one JSON document a line.
// node tus_client.mjs URL TOKEN FILE CHUNK_BYTES METADATA
import { createReadStream, statSync } from "node:fs";
import tus from "tus-js-client";

const [url, token, path, chunkSize, metadata] = process.argv.slice(2);
const say = (event, data) => process.stdout.write(JSON.stringify({ event, ...data }) + "\n");

const upload = new tus.Upload(createReadStream(path), {
  endpoint: url,
  headers: { Authorization: `Bearer ${token}` },
  chunkSize: Number(chunkSize),
  uploadSize: statSync(path).size,
  metadata: JSON.parse(metadata),
  retryDelays: [200, 500, 1000, 2000, 3000, 5000, 5000],
  onChunkComplete: (_size, accepted, total) => say("chunk", { accepted, total }),
  onError: (error) => {
    say("error", { message: String(error) });
    process.exit(1);
  },
  onSuccess: () => say("success", { url: upload.url }),
});
upload.start();
