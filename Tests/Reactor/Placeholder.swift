// Replaced by the first file of Reactor.
