import Reactor
import TestSupport
import Testing

@Suite("Addresses, endpoints and names")
struct AddressTests {
    @Test(
        "an address is written as it is read",
        arguments: [
            "1.2.3.4:80", "255.255.255.255:65535", "127.0.0.1:0", "[::1]:80", "[2001:db8::ff:1]:443",
            "unix:/run/x.sock",
        ])
    func addressRoundTrip(text: String) throws {
        let address = try #require(SocketAddress(parsing: text))
        #expect(address.description == text)
        #expect(SocketAddress(parsing: address.description) == address)
    }

    @Test("every address of the machine can be meant", arguments: [":80", "*:80", "0.0.0.0:80"])
    func anyAddress(text: String) {
        #expect(SocketAddress(parsing: text) == .ipv4(0, port: 80))
    }

    @Test("the parts of an address can be had")
    func parts() {
        #expect(SocketAddress(parsing: "10.0.0.1:8080")?.port == 8080)
        #expect(SocketAddress(parsing: "10.0.0.1:8080")?.host == "10.0.0.1")
        #expect(SocketAddress(parsing: "[::1]:8080")?.host == "::1")
        #expect(SocketAddress(parsing: "[::1]:8080")?.with(port: 1).description == "[::1]:1")
        #expect(SocketAddress(parsing: "unix:/a/b")?.host == "/a/b")
        #expect(SocketAddress(parsing: "10.0.0.1:1") == .ipv4(0x0a00_0001, port: 1))
        #expect(SocketAddress(parsing: "[::1]:1") == .ipv6(0, 1, port: 1, scope: 0))
    }

    @Test(
        "what is no numeric address is refused",
        arguments: [
            "", "80", "1.2.3.4", "1.2.3:80", "1.2.3.4.5:80", "1.2.3.4:", "1.2.3.4:+80", "1.2.3.4:-1",
            "1.2.3.4:65536",
            "1.2.3.4: 80", "::1:80", "[::1]", "[1.2.3.4]:80", "[]:80", "[::1:80", "localhost:80",
            "unix:relative", "unix:",
            "unix:/" + String(repeating: "x", count: 107),
        ])
    func badAddress(text: String) {
        #expect(SocketAddress(parsing: text) == nil)
    }

    @Test(
        "an endpoint is a name or an address, and a port",
        arguments: [
            ("example.org:80", Endpoint.host("example.org", port: 80)),
            ("redis_1:6379", .host("redis_1", port: 6379)),
            ("10.0.0.1:1", .host("10.0.0.1", port: 1)),
            ("[::1]:443", .host("::1", port: 443)),
            ("[fe80::1%eth0]:443", .host("fe80::1%eth0", port: 443)),
            ("unix:/run/x.sock", .unix("/run/x.sock")),
        ])
    func endpoint(text: String, expected: Endpoint) {
        #expect(Endpoint(parsing: text) == expected)
        #expect(expected.description == text)
    }

    @Test(
        "what is no endpoint is refused",
        arguments: [
            "", "example.org", ":80", "example.org:", "example.org:0", "example.org:+1", "example.org:65536",
            "a b:80", "a/b:80", "user@host:80", "::1:80", "[name]:80", "[]:80", "héllo:80", "unix:x",
            String(repeating: "a", count: 254) + ":80", "unix:/" + String(repeating: "x", count: 107),
        ])
    func badEndpoint(text: String) {
        #expect(Endpoint(parsing: text) == nil)
    }

    @Test("a name is resolved, a numeric host and a path need no look-up")
    func resolve() async throws {
        try await Rig.with { rig in
            let found = try await rig.task { loop in
                try await [
                    Resolver.resolve(.host("localhost", port: 81), timeoutMs: 10_000, loop: loop),
                    Resolver.resolve(.host("192.0.2.1", port: 82), timeoutMs: 0, loop: loop),
                    Resolver.resolve(.host("2001:db8::1", port: 83), timeoutMs: 0, loop: loop),
                    Resolver.resolve(.unix("/x"), timeoutMs: 0, loop: loop),
                ]
            }
            let loopback: [SocketAddress] = [.ipv4(0x7f00_0001, port: 81), .ipv6(0, 1, port: 81, scope: 0)]
            #expect(!found[0].isEmpty)
            #expect(found[0].allSatisfy(loopback.contains))
            #expect(found[1].map(\.description) == ["192.0.2.1:82"])
            #expect(found[2].map(\.description) == ["[2001:db8::1]:83"])
            #expect(found[3].map(\.description) == ["unix:/x"])
        }
    }

    @Test("a name that does not exist is an error that says so, and no time at all is a timeout")
    func resolveFailure() async throws {
        try await Rig.with { rig in
            let error = try await rig.task { loop in
                await failure { () async throws(IOError) in
                    try await Resolver.resolve(
                        .host("no-such.invalid", port: 1), timeoutMs: 20_000, loop: loop)
                }
            }
            #expect(error?.kind == .resolve)
            #expect(error?.description.contains("no-such.invalid") == true)
            let late = try await rig.task { loop in
                // Timers come before what other threads hand in, so the answer cannot overtake the deadline.
                await failure { () async throws(IOError) in
                    try await Resolver.resolve(.host("localhost", port: 1), timeoutMs: -1, loop: loop)
                }
            }
            #expect(late?.kind == .timeout)
        }
    }
}

/// The error that `body` throws, nil when it throws none.
func failure<T>(_ body: () async throws(IOError) -> T) async -> IOError? {
    do throws(IOError) {
        _ = try await body()
        return nil
    } catch {
        return error
    }
}
