/// What a channel tells its owner, always on the channel's loop.
package protocol ChannelDelegate: AnyObject {
    /// Connected, and through the TLS handshake where there is one. Accepted plain connections are so at
    /// once.
    func channelDidConnect(_ channel: Channel)
    /// New bytes stand in `channel.inbound`; consume what can be consumed, the rest is shown again with more.
    func channelDidRead(_ channel: Channel)
    /// The peer will send nothing more. The channel stays open for writing.
    func channelDidReadEOF(_ channel: Channel)
    /// What waits to be sent has fallen under the low watermark after it had been over the high one.
    func channelDidDrain(_ channel: Channel)
    /// The channel is closed: by us, by the peer (`error` nil) or by a fault. Called exactly once, and never
    /// from inside a call to the channel.
    func channelDidClose(_ channel: Channel, error: IOError?)
}

extension ChannelDelegate {
    package func channelDidConnect(_ channel: Channel) {}
    package func channelDidDrain(_ channel: Channel) {}
}
