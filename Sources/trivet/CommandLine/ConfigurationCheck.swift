import Postgres
import Reactor
import Redis
import Settings

/// What only those can judge who will use it: URLs of servers, addresses to listen on, certificates. Reads files, opens
/// nothing else.
struct ConfigurationCheck {
    private(set) var problems: [SettingProblem] = []

    mutating func listen(_ node: NodeConfiguration) {
        listen("LISTEN", node.listen)
        listen("ADMIN_LISTEN", node.adminListen)
    }

    mutating func listen(_ name: String, _ address: Address?) {
        do throws(InvalidAddress) {
            _ = try address?.socketAddress()
        } catch {
            add(name, error)
        }
    }

    mutating func redis(_ url: ServiceURL?) {
        guard let url else { return }
        do throws(RedisURL.Invalid) {
            _ = try RedisURL(parsing: url.url.secret)
        } catch {
            add("REDIS_URL", error)
        }
    }

    mutating func postgres(_ url: ServiceURL) {
        do throws(PostgresConnectionInfo.Invalid) {
            _ = try PostgresConnectionInfo(parsing: url.url.secret)
        } catch {
            add("DATABASE_URL", error)
        }
    }

    mutating func certificate(_ files: BalancerConfiguration.TLSFiles?) {
        guard let files else { return }
        do throws(IOError) {
            try TLSServerContext.check(
                TLSServerConfiguration.Certificate(chainPath: files.certificatePath, keyPath: files.keyPath))
        } catch {
            add("TLS_CERTIFICATE, TLS_KEY", error)
        }
    }

    private mutating func add(_ name: String, _ error: some CustomStringConvertible) {
        problems.append(SettingProblem(name: name, message: error.description))
    }
}
