import JobletModel

/// How a node stands, for people: nothing that is not known.
package enum NodeSheet {
  /// - Parameter last: the look before, for what is told by the second.
  package static func lines(_ node: NodeStatus, since last: NodeStatus? = nil, style: Style) -> [String] {
    var rows: [(String, String)] = []
    func add(_ name: String, _ value: String?) {
      if let value, !value.isEmpty { rows.append((name, value)) }
    }
    add("Node", [node.nodeID, node.address].compactMap(\.self).joined(separator: " at "))
    add("State", state(node, style))
    add("Host", node.host.map(host))
    add("Up", node.host?.bootedAt.map { Words.age($0, now: node.time) })
    add("CPU", cpu(node, style))
    add("Memory", node.memory.flatMap { memory($0, style) })
    add("Pressure", node.pressure.map(pressure))
    for disk in node.disks ?? [] { add("Disk", self.disk(disk, style)) }
    let before = Dictionary((last?.network ?? []).map { ($0.name, $0) }) { first, _ in first }
    for card in node.network ?? [] {
      let seconds = last.map { Double(node.time.nanoseconds &- $0.time.nanoseconds) / 1e9 } ?? 0
      add("Network", network(card, since: before[card.name], seconds: seconds))
    }
    add("Jobs", node.jobs.map(jobs))
    add("Store", node.services?.persist.map { store($0, style) })
    add(
      "Clients",
      node.gateway.map { "\(Words.count($0.connections, "connection")), \(Words.count($0.streams, "stream"))" })
    for certificate in node.certificates ?? [] { add("Certificate", self.certificate(certificate, style)) }
    add("Versions", versions(node.versions))
    return sheet(rows)
  }

  /// A name and a value a line; a name is said once.
  private static func sheet(_ rows: [(String, String)]) -> [String] {
    let width = rows.map(\.0.count).max() ?? 0
    var last = ""
    return rows.map { name, value in
      let title = name == last ? "" : name + ":"
      last = name
      return title + String(repeating: " ", count: width + 2 - title.count) + value
    }
  }

  private static func state(_ node: NodeStatus, _ style: Style) -> String? {
    guard let isReady = node.isReady else { return nil }
    if isReady { return style.paint("ready", .good) }
    let reasons = (node.reasons ?? []).map { Words.printable($0) }.joined(separator: "; ")
    return style.paint("not ready", .bad) + (reasons.isEmpty ? "" : ": \(reasons)")
  }

  private static func host(_ host: HostDescription) -> String {
    let kernel = host.kernel.map { "kernel \($0)" }
    return [host.hostname, host.os, kernel, host.architecture].compactMap(\.self).map { Words.printable($0) }
      .joined(separator: ", ")
  }

  private static func cpu(_ node: NodeStatus, _ style: Style) -> String? {
    var parts: [String] = []
    if let used = node.cpu?.usedPercent {
      // Of one core; how full the machine is counts for the colour.
      let share = node.cpu?.count.map { used / Double(max($0, 1)) } ?? 0
      parts.append(style.paint("\(Words.decimal(used)) % of a core", Style.tone(ofPercent: share)) + " used")
    }
    if let count = node.cpu?.count { parts.append("\(count) \(count == 1 ? "CPU" : "CPUs")") }
    if let load = node.load {
      parts.append(
        "load " + [load.oneMinute, load.fiveMinutes, load.fifteenMinutes].map(Words.decimal).joined(separator: " "))
    }
    if let model = node.cpu?.model { parts.append(Words.printable(model)) }
    return parts.joined(separator: ", ")
  }

  private static func memory(_ memory: MemoryFigures, _ style: Style) -> String? {
    guard let total = memory.totalBytes, total > 0, let available = memory.availableBytes else { return nil }
    let percent = Double(total &- available) * 100 / Double(total)
    var text = style.paint("\(Words.size(total &- available))", Style.tone(ofPercent: percent))
    text += " of \(Words.size(total)) used (\(Words.decimal(percent)) %)"
    if let swap = memory.swapTotalBytes, swap > 0, let free = memory.swapFreeBytes {
      text += ", swap \(Words.size(swap &- free)) of \(Words.size(swap))"
    }
    return text
  }

  private static func pressure(_ report: PressureReport) -> String {
    [("CPU", report.cpu), ("memory", report.memory), ("disk", report.io)].compactMap { name, figures in
      figures?.someAvg10.map { "\(name) \(Words.decimal($0)) %" }
    }.joined(separator: ", ") + " of the last 10 s waited"
  }

  private static func disk(_ disk: DiskFigures, _ style: Style) -> String {
    var text = "\(Words.printable(disk.path)) (\(disk.holds.joined(separator: ", ")))"
    if let total = disk.totalBytes, total > 0, let available = disk.availableBytes {
      let percent = Double(total &- available) * 100 / Double(total)
      text += ": " + style.paint("\(Words.size(available)) free", Style.tone(ofPercent: percent))
      text += " of \(Words.size(total))"
    }
    return text
  }

  private static func network(_ card: InterfaceFigures, since last: InterfaceFigures?, seconds: Double) -> String {
    var text = "\(Words.printable(card.name)): "
    func rate(_ now: Int64, _ before: Int64) -> String {
      Words.size(Int64(min(Double(max(0, now &- before)) / seconds, 9e18))) + "/s"
    }
    if let last, seconds > 0.1 {
      text += "\(rate(card.rxBytes, last.rxBytes)) in, \(rate(card.txBytes, last.txBytes)) out"
    } else {
      text += "\(Words.size(card.rxBytes)) in, \(Words.size(card.txBytes)) out"
    }
    let lost = card.rxErrors &+ card.txErrors &+ card.rxDropped &+ card.txDropped
    return lost > 0 ? text + ", \(lost) packets lost" : text
  }

  private static func jobs(_ jobs: NodeStatus.JobsFigures) -> String {
    func of(_ part: Int?, _ whole: Int?, _ what: String) -> String? {
      part.map { "\($0)\(whole.map { " of \($0)" } ?? "") \(what)" }
    }
    var parts = [of(jobs.running, jobs.maxRunning, "running"), of(jobs.queued, jobs.maxQueued, "queued")]
    if let bytes = jobs.memoryBytes {
      parts.append("memory \(Words.size(bytes))\(jobs.memoryLimitBytes.map { " of \(Words.size($0))" } ?? "")")
    }
    if let pids = jobs.pids { parts.append("\(pids) processes") }
    let ended = (jobs.byStatus ?? [:]).filter { JobStatus(rawValue: $0.key)?.isEnded == true && $0.value > 0 }
    parts += ended.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" }
    return parts.compactMap(\.self).joined(separator: ", ")
  }

  private static func store(_ store: NodeStatus.Services.Persist, _ style: Style) -> String {
    guard store.isConnected else { return style.paint("joblet-persist does not answer", .bad) }
    var parts = [store.backend, store.freeBytes.map { "\(Words.size($0)) free" }].compactMap(\.self)
    if let oldest = store.oldest { parts.append("jobs since \(oldest.description.prefix(10))") }
    if store.acceptsJobs == false {
      parts.append(style.paint("takes no new jobs: \(Words.printable(store.reason ?? "it does not say why"))", .bad))
    }
    return parts.joined(separator: ", ")
  }

  private static func certificate(_ certificate: CertificateStatus, _ style: Style) -> String {
    let tone: Style.Tone? =
      switch certificate.state {
      case .valid: nil
      case .expiring: .warning
      case .expired: .bad
      }
    let when = certificate.notAfter.description.prefix(10)
    let state =
      certificate.state == .expired ? "ended on \(when)" : "until \(when), \(Words.count(certificate.daysLeft, "day"))"
    return "\(certificate.name) (\(Words.printable(certificate.subject))) " + style.paint(state, tone)
  }

  private static func versions(_ versions: NodeStatus.Versions) -> String {
    let all = [("joblet-api", versions.api), ("joblet-exec", versions.exec), ("joblet-persist", versions.persist)]
    let known = Set(all.compactMap(\.1))
    if known.count == 1, all.allSatisfy({ $0.1 != nil }), let one = known.first { return one }
    return all.map { "\($0) \($1 ?? "is away")" }.joined(separator: ", ")
  }
}

/// A look at a node on one line.
package enum NodeLine {
  package static let header = "TIME                  READY  CPU%    LOAD  MEMORY-USED  RUNNING  QUEUED"

  package static func text(_ node: NodeStatus) -> String {
    func right(_ text: String?, _ width: Int) -> String {
      let text = text ?? "-"
      return String(repeating: " ", count: max(0, width - text.count)) + text
    }
    let used = node.memory.flatMap { memory in
      memory.totalBytes.flatMap { total in memory.availableBytes.map { Words.size(total &- $0) } }
    }
    return [
      "\(node.time.description.prefix(19))Z", right(node.isReady.map { $0 ? "yes" : "no" }, 6),
      right(node.cpu?.usedPercent.map(Words.decimal), 5), right(node.load.map { Words.decimal($0.oneMinute) }, 7),
      right(used, 12), right(node.jobs?.running.map { "\($0)" }, 8), right(node.jobs?.queued.map { "\($0)" }, 7),
    ].joined(separator: " ")
  }
}

/// Nodes as a table.
package enum NodeTable {
  package static func lines(_ nodes: [NodeSummary], width: Int?, now: Timestamp, style: Style) -> [String] {
    let header = ["NODE", "READY", "ADDRESS", "HOST", "CPUS", "LOAD", "MEMORY", "JOBS", "QUEUED", "VERSION", "SEEN"]
    var rows = nodes.map { row($0, now: now) }
    var titles = header
    // What a narrow terminal has no room for goes from the right.
    while let width, titles.count > 3, TextTable.width([titles] + rows) > width {
      titles.removeLast()
      for index in rows.indices { rows[index].removeLast() }
    }
    return TextTable.lines([titles] + rows, style: style) { row, column in
      guard row > 0 else { return .strong }
      return column == 1 ? (nodes[row - 1].isReady ? .good : .bad) : nil
    }
  }
  private static func row(_ node: NodeSummary, now: Timestamp) -> [String] {
    func number(_ value: Int?) -> String { value.map { "\($0)" } ?? "-" }
    let places = node.maxRunning.map { "/\($0)" } ?? ""
    return [
      Words.printable(node.nodeID), node.isReady ? "yes" : "no", node.address ?? "-",
      Words.printable(node.hostname ?? "-"), number(node.cpus), node.load.map(Words.decimal) ?? "-",
      node.memoryBytes.map(Words.size) ?? "-", node.running.map { "\($0)\(places)" } ?? "-", number(node.queued),
      Words.printable(node.version), Words.age(node.seenAt, now: now),
    ]
  }
}
