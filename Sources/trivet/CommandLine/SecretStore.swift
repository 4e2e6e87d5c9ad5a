import Bytes
import CLinux
import Glibc
import Reactor

/// The secrets of a set of containers: each is given, or was made earlier, or is made now; and each is written only to the
/// folders (volumes) of those who read it. The readers run as different users, so the files are readable by whoever sees the
/// folder.
struct SecretStore {
    /// Why a secret cannot be provided.
    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    let folder: String
    let givenFolder: String?
    let environment: [String: String]

    /// Writes what is missing or was given anew. Returns a line for each thing that people may want to know.
    func prepare() throws(Failure) -> [String] {
        var notes: [String] = []
        for reader in ["", "/postgres", "/redis", "/node", "/balancer"] { try makeFolder(folder + reader) }

        let postgres = try password("postgres", variable: "POSTGRES_PASSWORD")
        let redis = try password("redis", variable: "REDIS_PASSWORD")
        if postgres.isReplaced {
            notes.append(
                "another postgres password: PostgreSQL keeps the old one until ALTER ROLE changes it")
        }
        if redis.isReplaced { notes.append("another redis password: restart redis and every node") }
        try write("redis/redis.conf", "requirepass \"" + SecretStore.quotedForRedis(redis.value) + "\"\n")

        let databaseURL =
            try given("database-url", variable: "DATABASE_URL")
            ?? "postgres://trivet:\(PercentCoding.encode(postgres.value))@postgres:5432/trivet"
        try write("node/database-url", databaseURL + "\n")
        let redisURL =
            try given("redis-url", variable: "REDIS_URL")
            ?? "redis://:\(PercentCoding.encode(redis.value))@redis:6379/0"
        for reader in ["node", "balancer"] { try write(reader + "/redis-url", redisURL + "\n") }

        notes.append(try prepareCertificate())
        return notes
    }

    /// The password of a server, and whether it takes the place of another one.
    private func password(
        _ server: String, variable: String
    ) throws(Failure) -> (value: String, isReplaced: Bool) {
        let path = server + "/password"
        let stored = try SecretStore.read(folder + "/" + path)
        var value = stored
        if let given = try given(server + "-password", variable: variable) { value = given }
        let result = if let value { value } else { try SecretStore.randomPassword() }
        try write(path, result + "\n")
        return (result, stored != nil && stored != result)
    }

    private func prepareCertificate() throws(Failure) -> String {
        let certificatePath = folder + "/balancer/tls.crt"
        let keyPath = folder + "/balancer/tls.key"
        if let givenFolder {
            let certificate = try SecretStore.read(givenFolder + "/tls.crt")
            let key = try SecretStore.read(givenFolder + "/tls.key")
            if let certificate, let key {
                let isUsable = SelfSignedCertificate.isUsable(
                    certificatePath: givenFolder + "/tls.crt", keyPath: givenFolder + "/tls.key", days: 0)
                guard isUsable else {
                    throw Failure(
                        description:
                            "tls.crt and tls.key do not belong together, or the certificate has expired")
                }
                try write("balancer/tls.key", key + "\n")
                try write("balancer/tls.crt", certificate + "\n")
                try write("balancer/tls.names", "")
                return "the certificate is the given one"
            }
            if certificate != nil || key != nil {
                throw Failure(description: "of tls.crt and tls.key only one is given")
            }
        }
        let names = environment["TLS_NAMES"].flatMap { $0.isEmpty ? nil : $0 } ?? "localhost"
        let madeFor = try SecretStore.read(folder + "/balancer/tls.names")
        let wasGiven = madeFor == ""
        if wasGiven || madeFor == names,
            SelfSignedCertificate.isUsable(certificatePath: certificatePath, keyPath: keyPath)
        {
            return "the certificate is kept"
        }
        try makeCertificate(names)
        return "a certificate was made for \(names)"
    }

    private func makeCertificate(_ names: String) throws(Failure) {
        let made: SelfSignedCertificate
        do {
            let list = names.split(separator: ",").map { String($0.filter { $0 != " " }) }
            made = try SelfSignedCertificate.make(names: list, addresses: ["127.0.0.1", "::1"])
        } catch {
            throw Failure(description: "no certificate: \(error)")
        }
        try write("balancer/tls.key", String(decoding: made.keyPEM, as: UTF8.self))
        try write("balancer/tls.crt", String(decoding: made.certificatePEM, as: UTF8.self))
        try write("balancer/tls.names", names + "\n")
    }

    /// The content of a given file, or of a variable that is not empty.
    private func given(_ name: String, variable: String) throws(Failure) -> String? {
        var value = environment[variable].flatMap { $0.isEmpty ? nil : $0 }
        if let givenFolder, let content = try SecretStore.read(givenFolder + "/" + name) {
            value = content
            if content.isEmpty { throw Failure(description: "\(name) is empty") }
        }
        if let value, !value.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7F }) {
            throw Failure(description: "\(name) is not a single line of text")
        }
        return value
    }

    /// For its owner only, unless it is there: in containers it is, as the place of a volume.
    private func makeFolder(_ path: String) throws(Failure) {
        guard mkdir(path, 0o700) == 0 || errno == EEXIST else {
            throw Failure(description: "cannot make \(path): \(String(cString: strerror(errno)))")
        }
    }

    /// Writes the file unless it holds this already.
    private func write(_ name: String, _ text: String) throws(Failure) {
        let path = folder + "/" + name
        do {
            if try WholeFile.read(path) != Array(text.utf8) {
                try WholeFile.replace(path, with: Array(text.utf8), mode: 0o444)
            }
        } catch {
            throw Failure(description: "cannot write \(error)")
        }
    }

    /// The file's text without white space around it; nil when there is no such file.
    private static func read(_ path: String) throws(Failure) -> String? {
        do {
            guard let content = try WholeFile.read(path) else { return nil }
            let text = String(decoding: content, as: UTF8.self).drop(while: \.isWhitespace)
            return String(text.reversed().drop(while: \.isWhitespace).reversed())
        } catch {
            throw Failure(description: "cannot read \(error)")
        }
    }

    /// 192 random bits.
    private static func randomPassword() throws(Failure) -> String {
        var bytes = [UInt8](repeating: 0, count: 24)
        guard trivet_random(&bytes, bytes.count) == 0 else {
            throw Failure(description: "no random numbers: \(String(cString: strerror(errno)))")
        }
        return Hex.encode(bytes)
    }

    private static func quotedForRedis(_ text: String) -> String {
        text.map { $0 == "\"" || $0 == "\\" ? "\\\($0)" : String($0) }.joined()
    }
}
