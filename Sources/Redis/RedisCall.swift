import Reactor

/// One command on its way: it gets exactly one result, from a reply, from its deadline or from the end of its
/// connection. An error reply is a value.
typealias RedisCall = LoopPromise<RedisReply, RedisError>
