import Cgroups
import Glibc
import LinuxKernel
import Testing

@Suite struct FigureTextTests {
  private func parse<Value>(_ text: String, _ body: (UnsafeRawBufferPointer) -> Value) -> Value {
    Array(text.utf8).withUnsafeBytes(body)
  }

  @Test(arguments: [
    ("4096\n", Int64(4096)), ("0\n", 0), ("7", 7), ("9223372036854775807\n", .max),
    ("9223372036854775808\n", nil), ("99999999999999999999999999999\n", nil), ("max\n", nil), ("", nil), ("\n", nil),
    ("12 34\n", nil), ("-1\n", nil), ("1x\n", nil),
  ])
  func aNumberIsANumberOrNothing(_ text: String, _ expected: Int64?) {
    #expect(parse(text, FigureText.number) == expected)
  }

  @Test(arguments: [
    ("usage_usec 123\nuser_usec 1\n", Int64(123)), ("user_usec 1\nusage_usec 5", 5),
    // A key that begins or ends like it is another key.
    ("usage_usec2 1\nnusage_usec 2\n", nil), ("usage_usec\n", nil), ("usage_usec x\n", nil), ("usage_usec 1 2\n", nil),
    ("", nil), ("\n\n\nusage_usec 9\n", 9),
  ])
  func aKeysValueIsFound(_ text: String, _ expected: Int64?) {
    #expect(parse(text) { FigureText.value(of: "usage_usec", in: $0) } == expected)
  }

  @Test(arguments: [
    ("some avg10=12.34 avg60=0.00 avg300=0.00 total=5\nfull avg10=99.00 avg60=0.00 avg300=0.00 total=0\n", 12.34),
    ("some avg10=0.00 avg60=1.00 avg300=0.00 total=5\n", 0), ("some avg10=100.00 x", 100),
    ("full avg10=3.00 avg60=0.00 avg300=0.00 total=0\n", nil), ("", nil), ("some avg10=\n", nil),
    ("some avg10=1.\n", nil),
  ])
  func pressureIsThatOfSome(_ text: String, _ expected: Double?) {
    #expect(parse(text, FigureText.pressure) == expected)
  }

  @Test(arguments: [
    (
      "8:0 rbytes=100 wbytes=20 rios=1 wios=2 dbytes=7 dios=9\n98:0 rbytes=1 wbytes=2 rios=3 wios=4\n253:1 \n",
      IOFigures(readBytes: 101, writtenBytes: 22, reads: 4, writes: 6)
    ),
    ("", IOFigures(readBytes: 0, writtenBytes: 0, reads: 0, writes: 0)),
    (
      "8:0 rbytes=9223372036854775807 wios=1\n8:1 rbytes=1 wios=1\n",
      IOFigures(readBytes: nil, writtenBytes: 0, reads: 0, writes: 2)
    ),
    ("8:0 xrbytes=5 rbytes= rios=x wios=1", IOFigures(readBytes: 0, writtenBytes: 0, reads: 0, writes: 1)),
  ])
  func ioIsSummedOverTheDevices(_ text: String, _ expected: IOFigures) {
    #expect(parse(text, FigureText.io) == expected)
  }

  private static let table = """
    Inter-|   Receive                                                |  Transmit
     face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed

    """

  @Test(arguments: [
    ("    lo: 1000 1 0 0 0 0 0 0 2000 2 0 0 0 0 0 0\n", nil), ("", nil),
    (
      "    lo: 1000 1 0 0 0 0 0 0 2000 2 0 0 0 0 0 0\n  eth0: 11 1 0 0 0 0 0 0 22 2 0 0 0 0 0 0\nveth1:100 1 0 0 0 0 0 0 200 2 0 0 0 0 0 0\n",
      NetworkCounters(receivedBytes: 111, sentBytes: 222)
    ),
    (" eth0: 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n", NetworkCounters(receivedBytes: 0, sentBytes: 0)),
    (" eth0: 1 0 0 0 0 0 0 0\n", nil), (" eth0: x 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n", nil), ("nonsense\n", nil),
    (" eth0: -1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n", nil),
    (
      " a: 9223372036854775807 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n b: 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n", nil
    ),
  ])
  func interfacesButLoopbackAreSummed(_ rows: String, _ expected: NetworkCounters?) {
    #expect(parse(FigureTextTests.table + rows, NetworkCounters.init(deviceTable:)) == expected)
  }

  /// Whatever stands in the files, reading them ends, and what is said of changed text was in it.
  @Test func noiseIsReadToItsEnd() {
    var generator = Noise(state: 3)
    let seeds = [
      "usage_usec 123456\nuser_usec 1\n", "some avg10=1.50 avg60=0.00\n", "8:0 rbytes=100 wbytes=20 rios=1 wios=2\n",
      FigureTextTests.table + " eth0: 11 1 0 0 0 0 0 0 22 2 0 0 0 0 0 0\n",
    ]
    for round in 0..<20_000 {
      var bytes = Array(seeds[round % seeds.count].utf8)
      for _ in 0..<Int.random(in: 0...6, using: &generator) {
        let place = Int.random(in: 0..<bytes.count, using: &generator)
        switch Int.random(in: 0...3, using: &generator) {
        case 0: bytes[place] = UInt8.random(in: 0...255, using: &generator)
        case 1: bytes.remove(at: place)
        case 2: bytes.insert(UInt8(ascii: "9"), at: place)
        default: bytes.removeSubrange(place...)
        }
        if bytes.isEmpty { break }
      }
      bytes.withUnsafeBytes { bytes in
        #expect(FigureText.number(bytes).map { $0 >= 0 } ?? true)
        #expect(FigureText.value(of: "usage_usec", in: bytes).map { $0 >= 0 } ?? true)
        #expect(FigureText.pressure(bytes).map { $0 >= 0 } ?? true)
        #expect(FigureText.io(bytes).readBytes.map { $0 >= 0 } ?? true)
        #expect(NetworkCounters(deviceTable: bytes).map { $0.receivedBytes >= 0 && $0.sentBytes >= 0 } ?? true)
      }
    }
  }

  @Test func aProcessThatEndedHasNoNetwork() throws {
    var pid = pid_t()
    let arguments: [UnsafeMutablePointer<CChar>?] = [strdup("sleep"), strdup("1000"), nil]
    defer { for argument in arguments { free(argument) } }
    #expect(posix_spawnp(&pid, "sleep", nil, nil, arguments, environ) == 0)
    let process = try ProcessHandle.open(pid: pid)
    let table = try FileDescriptor.open("/proc/\(pid)/net/dev", O_RDONLY).readAll()
    let isMeasurable = table.withUnsafeBytes { NetworkCounters(deviceTable: $0) } != nil
    let counters = try process.networkCounters()
    #expect((counters != nil) == isMeasurable)
    try process.send(signal: SIGKILL)
    _ = try process.wait()
    let after = try process.networkCounters()
    #expect(after == nil)
  }
}

/// SplitMix64 with a fixed seed, so that a failure comes again.
private struct Noise: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var value = state
    value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
    value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
    return value ^ (value >> 31)
  }
}
