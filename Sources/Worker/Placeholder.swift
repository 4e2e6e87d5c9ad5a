// Replaced by the first file of Worker.
