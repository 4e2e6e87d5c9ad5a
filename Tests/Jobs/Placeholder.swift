// Replaced by the first file of Jobs.
