/// A class whose instances are confined to one event loop.
///
/// Such classes are declared `@unchecked Sendable`. The argument why that is sound is this one, for all of
/// them: every stored property is read and written only on the thread of `loop`. Code gets there by being
/// called from the loop's events and timers, or by running in a task started with `EventLoop.spawn`, which
/// stays on the loop's thread across every `await`. Whoever is elsewhere hands a closure to `loop.submit`.
/// Entry points check it in debug builds with `assertInLoop()`.
package protocol LoopBound: AnyObject, Sendable {
    /// The loop this instance belongs to, for ever.
    var loop: EventLoop { get }
}

extension LoopBound {
    /// Traps in debug builds when called from another thread.
    @inline(__always)
    package func assertInLoop(_ function: StaticString = #function) {
        assert(loop.inLoop, "\(function) called outside of the event loop it belongs to")
    }
}
