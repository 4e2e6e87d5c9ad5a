import TestSupport
import Testing

/// Real processes, one at a time: all suites here share the machine's two cores and one stack, and they measure.
@Suite(.serialized) enum EndToEnd {}
