// Replaced by the first file of HTTPWire.
