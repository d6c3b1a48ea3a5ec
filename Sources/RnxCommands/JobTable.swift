import JobletModel

/// Jobs as a table. In a terminal it fits the width: IDs become their shortest unique beginnings, then commands are cut, then
/// names.
package enum JobTable {
  private static let shortestCommand = 12
  private static let shortestName = 6
  private static let header = ["ID", "STATUS", "EXIT", "AGE", "NAME", "COMMAND"]
  private static let nameColumn = 4
  private static let commandColumn = 5

  /// - Parameter width: columns of the terminal; nil cuts nothing.
  package static func lines(
    _ jobs: [JobRecord], width: Int?, now: Timestamp, style: Style = Style(isOn: false)
  ) -> [String] {
    var rows = jobs.map { row($0, id: $0.id.description, now: now) }
    if let width, needed(rows) > width {
      let length = uniqueLength(jobs.map(\.id.description))
      rows = jobs.map { row($0, id: String($0.id.description.prefix(length)), now: now) }
      cut(&rows, column: commandColumn, least: shortestCommand, to: width)
      cut(&rows, column: nameColumn, least: shortestName, to: width)
    }
    return TextTable.lines([header] + rows, style: style) { row, column in
      guard row > 0 else { return .strong }
      return column == 1 ? Style.tone(of: jobs[row - 1].status) : nil
    }
  }

  private static func row(_ job: JobRecord, id: String, now: Timestamp) -> [String] {
    [
      id, job.status.rawValue, Words.exit(job), Words.age(job.createdAt, now: now), Words.printable(job.name ?? "-"),
      Words.printable(([job.command] + job.args).joined(separator: " ")),
    ]
  }

  private static func needed(_ rows: [[String]]) -> Int { TextTable.width([header] + rows) }

  private static func cut(_ rows: inout [[String]], column: Int, least: Int, to width: Int) {
    let excess = needed(rows) - width
    guard excess > 0 else { return }
    let longest = rows.map { $0[column].count }.max() ?? 0
    let room = max(least, longest - excess)
    for index in rows.indices { rows[index][column] = TextTable.cut(rows[index][column], to: room) }
  }

  /// Characters that tell all IDs apart; never fewer than show a UUIDv7's whole time, so that they stay unique for long.
  static func uniqueLength(_ ids: [String]) -> Int {
    var length = 13
    while length < 36, Set(ids.map { $0.prefix(length) }).count < Set(ids).count { length += 1 }
    return length
  }
}

/// Columns padded to their widest cell.
enum TextTable {
  static let gap = 2

  static func widths(_ rows: [[String]]) -> [Int] {
    (rows.first ?? []).indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
  }

  /// How wide the table is.
  static func width(_ rows: [[String]]) -> Int {
    let widths = widths(rows)
    return widths.reduce(0, +) + gap * max(0, widths.count - 1)
  }

  /// - Parameter tone: of a cell, by row and column; escapes take no room.
  static func lines(
    _ rows: [[String]], style: Style = Style(isOn: false), tone: (Int, Int) -> Style.Tone? = { _, _ in nil }
  ) -> [String] {
    let widths = widths(rows)
    return rows.enumerated().map { number, row in
      var line = ""
      for (column, cell) in row.enumerated() {
        line += style.paint(cell, tone(number, column))
        if column < row.count - 1 { line += String(repeating: " ", count: widths[column] - cell.count + gap) }
      }
      return line
    }
  }

  static func cut(_ text: String, to room: Int) -> String {
    text.count <= room ? text : text.prefix(max(0, room - 1)) + "…"
  }
}
