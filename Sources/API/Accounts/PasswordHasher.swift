import Bytes
import CArgon2
import Glibc
import Reactor

/// Passwords by argon2id (RFC 9106), on threads of their own: a hash takes tens of milliseconds and megabytes of memory, so
/// that no more run at once than there are cores, and no more wait than can be served in about a second.
struct PasswordHasher: Sendable {
    /// What a hash costs. The encoded hash tells the parameters it was made with, so they can be changed at any time.
    struct Parameters: Sendable {
        var memoryKiB: UInt32
        var passes: UInt32
        var lanes: UInt32

        /// 19 MiB, two passes: OWASP's first choice for servers, and in the spirit of RFC 9106 §4's second one.
        static let standard = Parameters(memoryKiB: 19_456, passes: 2, lanes: 1)
    }

    static let lengthBytes = 8...1024

    let parameters: Parameters
    private let pool: BlockingPool
    /// What an unknown account is checked against, so that it takes as long as a known one.
    private let decoy: String

    private static let sharedPool = BlockingPool(
        threads: max(1, min(8, sysconf(Int32(_SC_NPROCESSORS_ONLN)))), queueLimit: 64)

    init(parameters: Parameters = .standard, pool: BlockingPool? = nil) {
        self.parameters = parameters
        self.pool = pool ?? Self.sharedPool
        decoy = Self.hash(randomBytes(16), parameters)
    }

    /// The encoded hash of `password` with a salt of its own.
    /// - Throws: `BlockingPoolError.full` when too many wait already.
    func hash(_ password: String) async throws -> String {
        let parameters = parameters
        return try await pool.run { Self.hash(Array(password.utf8), parameters) }
    }

    /// Whether `password` is the one that `encoded` was made from; with nil, never, after as long a time.
    /// - Throws: `BlockingPoolError.full` when too many wait already.
    func verify(_ password: String, against encoded: String?) async throws -> Bool {
        let reference = encoded ?? decoy
        let isRight = try await pool.run {
            let bytes = Array(password.utf8)
            return argon2id_verify(reference, bytes, bytes.count) == ARGON2_OK.rawValue
        }
        return isRight && encoded != nil
    }

    /// Whether `encoded` was made with other parameters than those of today.
    func needsRehash(_ encoded: String) -> Bool {
        let wanted = "$argon2id$v=19$m=\(parameters.memoryKiB),t=\(parameters.passes),p=\(parameters.lanes)$"
        return !encoded.hasPrefix(wanted)
    }

    private static func hash(_ password: [UInt8], _ parameters: Parameters) -> String {
        let salt = randomBytes(16)
        var encoded = [CChar](repeating: 0, count: 256)
        let status = argon2id_hash_encoded(
            parameters.passes, parameters.memoryKiB, parameters.lanes, password, password.count, salt,
            salt.count, 32,
            &encoded, encoded.count)
        // The parameters are ours and the lengths are checked: what is left is that there is no memory.
        guard status == ARGON2_OK.rawValue else {
            fatalError("argon2: \(String(cString: argon2_error_message(status)))")
        }
        return String(decoding: encoded.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
