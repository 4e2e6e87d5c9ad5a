import Balancer
import Testing

@Suite("Latency histogram")
struct LatencyHistogramTests {
    @Test("percentiles are right within an eighth, from microseconds to minutes")
    func percentiles() throws {
        for scale in [1, 37, 1000, 90_000] {
            let histogram = LatencyHistogram()
            for value in 1...1000 { histogram.observe(UInt64(value * scale) * 1000) }
            let found = try #require(histogram.percentiles([0.5, 0.9, 0.99]))
            for (us, share) in zip(found, [0.5, 0.9, 0.99]) {
                let exact = share * 1000 * Double(scale)
                #expect(Double(us) >= exact && Double(us) <= exact * 1.13 + 1, "\(us), not \(exact)")
            }
        }
    }

    @Test("what is beyond all bounds is counted at the end; without answers there is no percentile")
    func ends() throws {
        let histogram = LatencyHistogram()
        #expect(histogram.percentiles([0.5]) == nil)
        histogram.observe(.max)
        histogram.observe(0)
        let found = try #require(histogram.percentiles([0, 1]))
        #expect(found[0] == 1 && found[1] > 100_000_000)
    }

    @Test("answers are forgotten after two turns of the window, not after one")
    func turns() {
        let histogram = LatencyHistogram()
        histogram.observe(5_000_000)
        histogram.rotate()
        #expect(histogram.percentiles([0.5]) != nil)
        histogram.rotate()
        #expect(histogram.percentiles([0.5]) == nil)
    }
}
