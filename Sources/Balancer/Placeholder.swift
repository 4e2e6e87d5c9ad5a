// Replaced by the first file of Balancer.
