// Binary messages of the protocol emotalking.v1 (docs/live.md).

export const SUBPROTOCOL = "emotalking.v1";
const HEADER_BYTES = 32;
const IMAGE_TYPES = [null, "image/jpeg", "image/webp", "image/png"];
const SPEAKING = 1;
const LAST = 2;

/** A frame of the server: its image (a Blob or null) and its samples (Int16Array). */
export function parseFrame(buffer) {
  const view = new DataView(buffer);
  if (buffer.byteLength < HEADER_BYTES || view.getUint8(0) !== 1) {
    throw new Error("The server speaks another version of the protocol: reload this page.");
  }
  const flags = view.getUint16(2, true);
  const imageBytes = view.getUint32(16, true);
  const soundBytes = view.getUint32(20, true);
  const soundAt = HEADER_BYTES + imageBytes;
  const type = IMAGE_TYPES[view.getUint8(1)];
  return {
    speaking: (flags & SPEAKING) !== 0,
    last: (flags & LAST) !== 0,
    utterance: view.getUint32(4, true),
    index: Number(view.getBigUint64(8, true)),
    position: view.getFloat32(24, true),
    generation: view.getUint32(28, true),
    image: type && imageBytes ? new Blob([new Uint8Array(buffer, HEADER_BYTES, imageBytes)], { type }) : null,
    // A copy: samples need not begin at an even byte.
    samples: new Int16Array(buffer.slice(soundAt, soundAt + soundBytes)),
  };
}

/** Float samples as 16-bit ones. */
export function toInt16(samples) {
  const rounded = new Int16Array(samples.length);
  for (let i = 0; i < samples.length; i++) {
    rounded[i] = Math.max(-32768, Math.min(32767, Math.round(samples[i] * 32768)));
  }
  return rounded;
}
