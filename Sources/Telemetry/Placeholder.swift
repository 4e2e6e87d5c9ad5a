// Replaced by the first file of Telemetry.
