// Replaced by the first file of Redis.
