import JobletModel

/// Readers of the kernel's files about the host: pure functions over a file's text. What is not there, or not in the form the
/// kernel writes, is nil and never 0.
package enum HostText {
  /// `/proc/meminfo` (proc_meminfo(5)): `Name:   123 kB` a line.
  package static func memory(_ text: String) -> MemoryFigures {
    var values: [Substring: Int64] = [:]
    for line in text.split(separator: "\n") {
      guard let colon = line.firstIndex(of: ":") else { continue }
      let words = line[line.index(after: colon)...].split(separator: " ")
      guard words.count == 2, words[1] == "kB", let kibibytes = number(words[0]) else { continue }
      let (bytes, isBeyond) = kibibytes.multipliedReportingOverflow(by: 1024)
      if !isBeyond { values[line[..<colon]] = bytes }
    }
    var figures = MemoryFigures()
    figures.totalBytes = values["MemTotal"]
    figures.availableBytes = values["MemAvailable"]
    figures.freeBytes = values["MemFree"]
    figures.cachedBytes = values["Cached"]
    figures.swapTotalBytes = values["SwapTotal"]
    figures.swapFreeBytes = values["SwapFree"]
    return figures
  }

  /// `/proc/stat` (proc_stat(5)): a line `cpu` with the sum, a line for each CPU that is online, and `btime`.
  /// - Parameter ticks: clock ticks a second, sysconf(3) `_SC_CLK_TCK`.
  package static func processors(
    _ text: String, ticks: Int64
  ) -> (figures: ProcessorFigures, bootedAt: Timestamp?) {
    var figures = ProcessorFigures()
    var bootedAt: Timestamp?
    var count = 0
    for line in text.split(separator: "\n") {
      let words = line.prefix(512).split(separator: " ")
      guard let name = words.first else { continue }
      if name == "cpu" {
        read(words.dropFirst(), ticks: ticks, into: &figures)
      } else if name.hasPrefix("cpu"), number(name.dropFirst(3)) != nil {
        count += 1
      } else if name == "btime", words.count > 1, let seconds = number(words[1]) {
        let (nanoseconds, isBeyond) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        if !isBeyond { bootedAt = Timestamp(nanoseconds: nanoseconds) }
      }
    }
    figures.count = count > 0 ? count : nil
    return (figures, bootedAt)
  }

  /// user nice system idle iowait irq softirq steal, in ticks; guest's time is in user's already.
  private static func read(_ words: ArraySlice<Substring>, ticks: Int64, into figures: inout ProcessorFigures) {
    let times = words.prefix(8).map { word -> Int64? in
      guard ticks > 0, let value = number(word) else { return nil }
      let (microseconds, isBeyond) = value.multipliedReportingOverflow(by: 1_000_000)
      return isBeyond ? nil : microseconds / ticks
    }
    guard times.count == 8 else { return }
    figures.busyUsec = sum([times[0], times[1], times[2], times[5], times[6]])
    figures.idleUsec = times[3]
    figures.iowaitUsec = times[4]
    figures.stealUsec = times[7]
  }

  private static func sum(_ values: [Int64?]) -> Int64? {
    values.reduce(0) { sum, value in
      guard let sum, let value else { return nil }
      let (next, isBeyond) = sum.addingReportingOverflow(value)
      return isBeyond ? nil : next
    }
  }

  /// `/proc/loadavg` (proc_loadavg(5)): `0.42 0.30 0.21 1/123 4567`.
  package static func load(_ text: String) -> LoadFigures? {
    let values = text.prefix(128).split(separator: " ").prefix(3).compactMap(decimal)
    guard values.count == 3 else { return nil }
    return LoadFigures(oneMinute: values[0], fiveMinutes: values[1], fifteenMinutes: values[2])
  }

  /// `/proc/pressure/*` (Documentation/accounting/psi.rst): `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same with
  /// `full`. Nil where nothing of it is there.
  package static func pressure(_ text: String) -> PressureFigures? {
    var figures = PressureFigures()
    for line in text.split(separator: "\n").prefix(4) {
      var values: [Substring: Substring] = [:]
      let words = line.split(separator: " ")
      for word in words.dropFirst() {
        let pair = word.split(separator: "=", maxSplits: 1)
        if pair.count == 2 { values[pair[0]] = pair[1] }
      }
      let avg10 = values["avg10"].flatMap(decimal)
      let avg60 = values["avg60"].flatMap(decimal)
      let total = values["total"].flatMap(number)
      if words.first == "some" {
        (figures.someAvg10, figures.someAvg60, figures.someTotalUsec) = (avg10, avg60, total)
      } else if words.first == "full" {
        (figures.fullAvg10, figures.fullAvg60, figures.fullTotalUsec) = (avg10, avg60, total)
      }
    }
    return figures == PressureFigures() ? nil : figures
  }

  /// `/proc/net/dev` (proc_pid_net(5)): two lines of headings, then `name: ` and sixteen numbers. At most 64 interfaces, without
  /// the loopback.
  package static func network(_ text: String) -> [InterfaceFigures] {
    text.split(separator: "\n").dropFirst(2).prefix(1024).compactMap { line -> InterfaceFigures? in
      // The last one: an interface's alias has a colon too.
      guard let colon = line.lastIndex(of: ":") else { return nil }
      let name = line[..<colon].drop { $0 == " " }
      guard !name.isEmpty, name != "lo" else { return nil }
      let numbers = line[line.index(after: colon)...].split(separator: " ").map(number)
      guard !numbers.contains(nil) else { return nil }
      return InterfaceFigures(name: String(name), numbers: numbers.compactMap { $0 })
    }.prefix(64).map { $0 }
  }

  /// What a disk did since the boot.
  package struct DiskCounters: Hashable, Sendable {
    package var readOps: Int64
    package var readBytes: Int64
    package var writeOps: Int64
    package var writeBytes: Int64
    package var busyUsec: Int64

    package init(readOps: Int64, readBytes: Int64, writeOps: Int64, writeBytes: Int64, busyUsec: Int64) {
      self.readOps = readOps
      self.readBytes = readBytes
      self.writeOps = writeOps
      self.writeBytes = writeBytes
      self.busyUsec = busyUsec
    }
  }

  /// `/proc/diskstats` (Documentation/admin-guide/iostats.rst) by device number, `8:0`. Sectors are of 512 bytes there, whatever
  /// the disk's are.
  package static func disks(_ text: String) -> [String: DiskCounters] {
    var disks: [String: DiskCounters] = [:]
    for line in text.split(separator: "\n").prefix(4096) {
      let words = line.split(separator: " ")
      guard words.count >= 13, number(words[0]) != nil, number(words[1]) != nil else { continue }
      let numbers = words[3...].prefix(10).compactMap(number)
      guard numbers.count == 10 else { continue }
      let scaled = [(numbers[2], 512), (numbers[6], 512), (numbers[9], 1000)].map {
        $0.0.multipliedReportingOverflow(by: Int64($0.1))
      }
      guard !scaled.contains(where: \.overflow) else { continue }
      disks["\(words[0]):\(words[1])"] = DiskCounters(
        readOps: numbers[0], readBytes: scaled[0].partialValue, writeOps: numbers[4],
        writeBytes: scaled[1].partialValue, busyUsec: scaled[2].partialValue)
    }
    return disks
  }

  /// `PRETTY_NAME` of os-release(5), without its quotation marks; at most 128 characters.
  package static func osName(_ text: String) -> String? {
    for line in text.split(separator: "\n") where line.hasPrefix("PRETTY_NAME=") {
      let value = line.dropFirst(12).filter { $0 != "\"" && $0 != "'" }
      return value.isEmpty ? nil : String(value.prefix(128))
    }
    return nil
  }

  /// The first CPU's name in `/proc/cpuinfo` (proc_cpuinfo(5)); not every architecture has one.
  package static func processorModel(_ text: String) -> String? {
    for line in text.split(separator: "\n").prefix(64) where line.hasPrefix("model name") {
      guard let colon = line.firstIndex(of: ":") else { return nil }
      let value = line[line.index(after: colon)...].drop { $0 == " " }
      return value.isEmpty ? nil : String(value.prefix(128))
    }
    return nil
  }

  /// Decimal digits alone.
  private static func number(_ text: Substring) -> Int64? {
    text.utf8.allSatisfy { (0x30...0x39).contains($0) } ? Int64(text) : nil
  }

  private static func decimal(_ text: Substring) -> Double? {
    text.utf8.allSatisfy { (0x30...0x39).contains($0) || $0 == 0x2E } ? Double(text) : nil
  }
}
