import JobletModel
import Testing
import Worker

@Suite struct HostTextTests {
  static let stat = """
    cpu  1000 200 300 90000 400 50 60 7 11 0
    cpu0 500 100 150 45000 200 25 30 3 5 0
    cpu1 500 100 150 45000 200 25 30 4 6 0
    intr 123456 0 0 9 0
    ctxt 1234
    btime 1795296000
    processes 4242
    """

  @Test func processorsAreCountedAndTheirTimesAreMicroseconds() {
    let (figures, bootedAt) = HostText.processors(Self.stat, ticks: 100)
    #expect(figures.count == 2)
    // user, nice, system, irq and softirq; a guest's time is in user's.
    #expect(figures.busyUsec == 16_100_000)
    #expect(figures.idleUsec == 900_000_000 && figures.iowaitUsec == 4_000_000 && figures.stealUsec == 70_000)
    #expect(bootedAt == Timestamp(nanoseconds: 1_795_296_000_000_000_000))
  }

  @Test(arguments: ["", "cpu", "cpu 1 2 3", "cpux 1 2 3 4 5 6 7 8", "btime -1", "btime 9223372036854775807"])
  func whatIsNotThereIsAbsent(_ text: String) {
    let (figures, bootedAt) = HostText.processors(text, ticks: 100)
    #expect(figures == ProcessorFigures() && bootedAt == nil)
    #expect(HostText.processors(Self.stat, ticks: 0).figures.busyUsec == nil)
    let (large, _) = HostText.processors("cpu 9223372036854775807 1 1 4 1 1 1 x\n", ticks: 100)
    #expect(large.busyUsec == nil && large.idleUsec == 40_000 && large.stealUsec == nil)
  }

  @Test func memoryIsBytes() {
    let figures = HostText.memory(
      "MemTotal:  8136448 kB\nMemFree: 4194304 kB\nMemAvailable: 6750208 kB\nCached: 2097152 kB\nSwapTotal: 0 kB\nHugePages_Total: 7\n"
    )
    #expect(figures.totalBytes == 8_331_722_752 && figures.freeBytes == 4_294_967_296)
    #expect(figures.availableBytes == 6_912_212_992 && figures.cachedBytes == 2_147_483_648)
    #expect(figures.swapTotalBytes == 0 && figures.swapFreeBytes == nil)
    #expect(HostText.memory("MemTotal: 9223372036854775807 kB\nMemFree: -1 kB\n") == MemoryFigures())
  }

  @Test func loadAndPressure() {
    #expect(
      HostText.load("0.42 0.30 0.21 1/123 4567\n")
        == LoadFigures(oneMinute: 0.42, fiveMinutes: 0.3, fifteenMinutes: 0.21))
    #expect(HostText.load("0.42 0.30") == nil && HostText.load("nan inf 1") == nil)
    let pressure = HostText.pressure(
      "some avg10=1.50 avg60=0.25 avg300=0.00 total=4410\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=91\n")
    #expect(pressure?.someAvg10 == 1.5 && pressure?.someAvg60 == 0.25 && pressure?.someTotalUsec == 4410)
    #expect(pressure?.fullAvg10 == 0.5 && pressure?.fullTotalUsec == 91)
    #expect(HostText.pressure("") == nil && HostText.pressure("other avg10=1") == nil)
  }

  @Test func interfacesWithoutTheLoopback() {
    let table = """
      Inter-|   Receive                                                |  Transmit
       face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
          lo: 100 1 0 0 0 0 0 0 100 1 0 0 0 0 0 0
        eth0: 73400320 91002 1 2 0 0 0 0 9400320 60113 3 4 0 0 0 0
      eth0:1: 5 1 0 0 0 0 0 0 6 1 0 0 0 0 0 0
       short: 1 2 3
       wrong: 1 2 3 x 5 6 7 8 9 10 11 12 13 14 15 16
      """
    let interfaces = HostText.network(table)
    #expect(interfaces.map(\.name) == ["eth0", "eth0:1"])
    #expect(interfaces[0].rxBytes == 73_400_320 && interfaces[0].txBytes == 9_400_320)
    #expect(interfaces[0].rxErrors == 1 && interfaces[0].rxDropped == 2)
    #expect(interfaces[0].txErrors == 3 && interfaces[0].txDropped == 4 && interfaces[0].txPackets == 60_113)
  }

  @Test func disksByNumber() {
    let disks = HostText.disks(
      "   8       0 sda 4410 10 356913 900 20113 44 1810432 5000 0 5120 6000 0 0 0 0\n   8 1 sda1 1 2\n")
    #expect(
      disks == [
        "8:0": HostText.DiskCounters(
          readOps: 4410, readBytes: 356_913 * 512, writeOps: 20_113, writeBytes: 1_810_432 * 512, busyUsec: 5_120_000)
      ])
  }

  @Test func names() {
    #expect(
      HostText.osName("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n") == "Debian GNU/Linux 12 (bookworm)")
    #expect(HostText.osName("PRETTY_NAME=\n") == nil && HostText.osName("") == nil)
    #expect(
      HostText.processorModel("processor\t: 0\nmodel name\t: AMD EPYC 7571\nmodel name\t: B\n") == "AMD EPYC 7571")
    #expect(HostText.processorModel("Features : fp\n") == nil)
  }

  @Test func bytesOfChanceNeverTrap() {
    var state: UInt64 = 3
    func random(_ bound: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int(state >> 33) % bound
    }
    let pieces: [[UInt8]] = [
      "cpu ", "cpu0 ", "btime ", "9223372036854775807 ", "-1 ", "0 ", "x", ":", "=", "\n", " ", "some avg10=",
      "MemTotal: ",
      " kB\n", "8 0 sda ", "1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\n", "PRETTY_NAME=", "model name", "\u{FF}", "total=",
    ].map { Array($0.utf8) }
    for _ in 0..<5000 {
      var bytes: [UInt8] = []
      for _ in 0..<random(30) { bytes += pieces[random(pieces.count)] }
      if !bytes.isEmpty { bytes[random(bytes.count)] = UInt8(random(256)) }
      let text = String(decoding: bytes, as: UTF8.self)
      _ = (HostText.processors(text, ticks: 100), HostText.memory(text), HostText.load(text), HostText.pressure(text))
      _ = (HostText.network(text), HostText.disks(text), HostText.osName(text), HostText.processorModel(text))
    }
  }
}
