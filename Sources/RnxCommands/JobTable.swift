import JobletModel

/// Jobs as a table. In a terminal it fits the width: IDs become their shortest unique beginnings, then commands are cut.
package enum JobTable {
  private static let gap = 2
  private static let shortestCommand = 12

  package static func lines(_ jobs: [JobRecord], width: Int?, now: Timestamp) -> [String] {
    var rows = jobs.map { row($0, id: $0.id.description, now: now) }
    if let width, needed(rows) > width {
      let length = uniqueLength(jobs.map(\.id.description))
      rows = jobs.map { row($0, id: String($0.id.description.prefix(length)), now: now) }
      let excess = needed(rows) - width
      if excess > 0 {
        let longest = rows.map { $0[5].count }.max() ?? 0
        let room = max(shortestCommand, longest - excess)
        for index in rows.indices { rows[index][5] = cut(rows[index][5], to: room) }
      }
    }
    return TextTable.lines([header] + rows)
  }

  private static let header = ["ID", "STATUS", "EXIT", "AGE", "NAME", "COMMAND"]

  private static func row(_ job: JobRecord, id: String, now: Timestamp) -> [String] {
    [
      id, job.status.rawValue, Words.exit(job), Words.age(job.createdAt, now: now), job.name ?? "-",
      Words.printable(([job.command] + job.args).joined(separator: " ")),
    ]
  }

  private static func needed(_ rows: [[String]]) -> Int { TextTable.widths([header] + rows).reduce(0, +) + gap * 5 }

  /// Characters that tell all IDs apart; never fewer than show a UUIDv7's whole time, so that they stay unique for long.
  static func uniqueLength(_ ids: [String]) -> Int {
    var length = 13
    while length < 36, Set(ids.map { $0.prefix(length) }).count < Set(ids).count { length += 1 }
    return length
  }

  private static func cut(_ text: String, to room: Int) -> String {
    text.count <= room ? text : text.prefix(room - 1) + "…"
  }
}

/// Columns padded to their widest cell.
enum TextTable {
  static func widths(_ rows: [[String]]) -> [Int] {
    (rows.first ?? []).indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
  }

  static func lines(_ rows: [[String]]) -> [String] {
    let widths = widths(rows)
    return rows.map { row in
      var line = ""
      for (column, cell) in row.enumerated() {
        let isLast = column == row.count - 1
        line += cell + (isLast ? "" : String(repeating: " ", count: widths[column] - cell.count + 2))
      }
      return line
    }
  }
}
