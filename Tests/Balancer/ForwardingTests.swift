import TestSupport
import Testing

@Suite("Proxy: forwarding")
struct ForwardingTests {
    @Test("a request goes to the upstream and its answer comes back")
    func simple() throws {
        let up = try TestUpstream()
        try ProxyRig.with([up]) { rig in
            let response = try rig.get("/path?q=1")
            #expect(response.status == 200)
            #expect(response.text == "up")
            #expect(up.requests.map(\.target) == ["/path?q=1"])
        }
    }
}
