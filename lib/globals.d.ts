// typed-array-utils names this DOM type in its sources.
type BufferSource = ArrayBufferView | ArrayBuffer;
