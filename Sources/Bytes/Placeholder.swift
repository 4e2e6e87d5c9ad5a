// Replaced by the first file of Bytes.
