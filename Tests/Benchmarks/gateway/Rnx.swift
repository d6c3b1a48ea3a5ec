import BenchmarkKit

/// `rnx_run_ms`: `rnx job run --follow true` from its start to its end, beside others that run `true` somewhere else.
func measureRnx(_ bed: Bed, _ options: Options) throws {
  let config = "\(bed.directory)/rnx-config.yml"
  func block(_ file: String) throws -> String {
    try readFile("\(bed.directory)/config/\(file)").split(separator: "\n").map { "      \($0)\n" }.joined()
  }
  try writeFile(
    config,
    """
    version: "3.0"
    nodes:
      default:
        address: "\(bed.base.dropFirst("https://".count))"
        cert: |
    \(try block("client.pem"))    key: |
    \(try block("client.key"))    ca: |
    \(try block("ca.pem"))
    """)
  let rnx = "\(options.programs.daemons)/rnx"
  let runs = 50
  let times = try wholeProcess([rnx, "--config", config, "job", "run", "--follow", "true"], runs: runs)
  func figure(_ peer: Figure.Peer) {
    var figure = Figure("rnx_run_ms", percentile(50, of: times), "ms", count: runs)
    figure.note = "p99 \(percentile(99, of: times)) ms"
    figure.print(beside: peer)
  }
  for (name, command) in [
    ("docker run --rm busybox true", ["docker", "run", "--rm", "busybox", "true"]),
    ("ssh localhost true", ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5", "localhost", "true"]),
  ] {
    do {
      figure(.measured(name, percentile(50, of: try wholeProcess(command, runs: 10))))
    } catch {
      figure(.absent(name, why: "\(error)"))
    }
  }
}

/// Milliseconds from the start of a process to its end; it must end well.
private func wholeProcess(_ command: [String], runs: Int) throws -> [Double] {
  var times: [Double] = []
  for run in 0...runs {
    let begun = monotonicNow()
    let child = try Child(command, output: .file("/dev/null"), errors: .pipe)
    let said = String(decoding: child.readAll().prefix(200), as: UTF8.self)
    let code = child.wait()
    guard code == 0 else { throw BenchmarkError("\(command[0]) ended with \(code): \(said)") }
    if run > 0 { times.append(Double(monotonicNow() - begun) / 1e6) }  // the first one warms the caches
  }
  return times
}
