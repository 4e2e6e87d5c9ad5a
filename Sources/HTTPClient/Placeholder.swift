// Replaced by the first file of HTTPClient.
