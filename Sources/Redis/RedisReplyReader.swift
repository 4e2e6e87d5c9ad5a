import CHiredis
import Glibc

/// Turns received bytes into replies, with hiredis's reader. No I/O.
///
/// Bounds: a reply nests at most 7 arrays deep (hiredis), has at most `elementLimit` elements an array
/// and takes at most `replyLimitBytes` on the wire; a reply beyond them is a protocol error, after which the
/// reader is useless.
package struct RedisReplyReader: ~Copyable {
    package struct Limits: Sendable {
        package var replyLimitBytes = 64 << 20
        package var elementLimit = 1 << 20
        package init() {}
    }

    /// What `createArray` needs to know; hiredis hands the pointer to it with each task.
    private struct Context {
        var elementLimit: Int
        var createArray: (@convention(c) (UnsafePointer<redisReadTask>?, Int32) -> UnsafeMutableRawPointer?)?
    }

    private let reader: UnsafeMutablePointer<redisReader>
    private let context: UnsafeMutablePointer<Context>
    private let functions: UnsafeMutablePointer<redisReplyObjectFunctions>
    private let replyLimitBytes: Int
    private var fedSinceReply = 0

    package init(limits: Limits = Limits()) {
        guard let reader = redisReaderCreate() else { fatalError("out of memory") }
        self.reader = reader
        replyLimitBytes = limits.replyLimitBytes
        context = .allocate(capacity: 1)
        functions = .allocate(capacity: 1)
        functions.initialize(to: reader.pointee.fn.pointee)
        context.initialize(
            to: Context(elementLimit: limits.elementLimit, createArray: reader.pointee.fn.pointee.createArray)
        )
        // A length is believed before its elements arrive, and memory for them is taken at once: check it
        // first.
        functions.pointee.createArray = { task, count in
            guard let context = task?.pointee.privdata?.assumingMemoryBound(to: Context.self),
                Int(count) <= context.pointee.elementLimit
            else { return nil }
            return context.pointee.createArray?(task, count)
        }
        reader.pointee.fn = functions
        reader.pointee.privdata = UnsafeMutableRawPointer(context)
    }

    deinit {
        redisReaderFree(reader)
        functions.deallocate()
        context.deallocate()
    }

    /// Takes received bytes; ask `next` for the replies in them.
    package mutating func feed(_ bytes: UnsafeRawBufferPointer) throws(RedisError) {
        guard !bytes.isEmpty else { return }
        fedSinceReply += bytes.count
        let start = bytes.baseAddress?.assumingMemoryBound(to: CChar.self)
        guard redisReaderFeed(reader, start, bytes.count) == REDIS_OK else { throw failure }
    }

    /// The next complete reply; nil when more bytes are needed.
    package mutating func next() throws(RedisError) -> RedisReply? {
        var pointer: UnsafeMutableRawPointer?
        guard redisReaderGetReply(reader, &pointer) == REDIS_OK else { throw failure }
        guard let pointer else {
            if fedSinceReply > replyLimitBytes {
                throw .protocol("a reply of more than \(replyLimitBytes) bytes")
            }
            return nil
        }
        defer { freeReplyObject(pointer) }
        fedSinceReply = Int(reader.pointee.len) - Int(reader.pointee.pos)
        return Self.convert(pointer.assumingMemoryBound(to: redisReply.self))
    }

    private var failure: RedisError {
        // The reader reports a refused array as lack of memory.
        if reader.pointee.err == REDIS_ERR_OOM { return .protocol("an array with too many elements") }
        let text = withUnsafeBytes(of: reader.pointee.errstr) {
            String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
        }
        return .protocol(text)
    }

    private static func convert(_ reply: UnsafeMutablePointer<redisReply>) -> RedisReply {
        switch reply.pointee.type {
        case REDIS_REPLY_INTEGER: return .integer(Int(reply.pointee.integer))
        case REDIS_REPLY_STATUS: return .status(text(of: reply))
        case REDIS_REPLY_STRING:
            return .bulk(Array(UnsafeRawBufferPointer(start: reply.pointee.str, count: reply.pointee.len)))
        case REDIS_REPLY_ARRAY:
            var elements: [RedisReply] = []
            elements.reserveCapacity(reply.pointee.elements)
            for index in 0..<reply.pointee.elements {
                guard let element = reply.pointee.element[index] else { continue }
                elements.append(convert(element))
            }
            return .array(elements)
        case REDIS_REPLY_ERROR:
            let message = text(of: reply)
            return .error(code: String(message.prefix { $0 != " " }), message: message)
        default: return .null
        }
    }

    private static func text(of reply: UnsafeMutablePointer<redisReply>) -> String {
        String(
            decoding: UnsafeRawBufferPointer(start: reply.pointee.str, count: reply.pointee.len),
            as: UTF8.self)
    }
}
