// Replaced by the first file of Cluster.
