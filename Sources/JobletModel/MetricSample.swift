/// What one look at a running job measured: a line of `metrics.jsonl.gz`, an SSE event `metrics`, a metric frame's payload.
///
/// What could not be measured is absent, never 0. Counters count from the job's start.
public struct MetricSample: Codable, Hashable, Sendable {
  /// Samples of a job count 1, 2, 3 … on their own.
  public var seq: UInt64
  public var ts: Timestamp
  /// CPU time since the sample before, in percent of one core: 250 is two and a half cores.
  public var cpuPercent: Double?
  /// `cpu.stat` usage_usec.
  public var cpuUsec: Int64?
  /// `memory.current` and `memory.peak`.
  public var memoryBytes: Int64?
  public var memoryPeakBytes: Int64?
  /// `io.stat` rbytes, wbytes, rios, wios over all devices.
  public var ioReadBytes: Int64?
  public var ioWriteBytes: Int64?
  public var ioReadOps: Int64?
  public var ioWriteOps: Int64?
  /// The job's network namespace, every interface but `lo`.
  public var netRxBytes: Int64?
  public var netTxBytes: Int64?
  /// `pids.current`.
  public var pids: Int64?
  /// `*.pressure`, `some avg10`: percent of the last ten seconds in which some task of the job waited.
  public var psiCPU: Double?
  public var psiMemory: Double?
  public var psiIO: Double?
  public var gpuPercent: Double?
  public var gpuMemoryBytes: Int64?

  public enum CodingKeys: String, CodingKey, CaseIterable {
    case seq, ts, pids
    case cpuPercent = "cpu_percent"
    case cpuUsec = "cpu_usec"
    case memoryBytes = "memory_bytes"
    case memoryPeakBytes = "memory_peak_bytes"
    case ioReadBytes = "io_read_bytes"
    case ioWriteBytes = "io_write_bytes"
    case ioReadOps = "io_read_ops"
    case ioWriteOps = "io_write_ops"
    case netRxBytes = "net_rx_bytes"
    case netTxBytes = "net_tx_bytes"
    case psiCPU = "psi_cpu"
    case psiMemory = "psi_memory"
    case psiIO = "psi_io"
    case gpuPercent = "gpu_percent"
    case gpuMemoryBytes = "gpu_memory_bytes"
  }

  public init(seq: UInt64, ts: Timestamp) {
    self.seq = seq
    self.ts = ts
  }

  /// The JSON line with its newline. `seq` and `ts` stand first, in the form of a log line's, so that readers find them by
  /// place.
  public var line: String {
    var line = "{\"seq\":\(seq),\"ts\":\"\(ts)\""
    func put(_ key: CodingKeys, _ value: (some CustomStringConvertible)?) {
      if let value { line += ",\"\(key.rawValue)\":\(value)" }
    }
    put(.cpuPercent, cpuPercent)
    put(.cpuUsec, cpuUsec)
    put(.memoryBytes, memoryBytes)
    put(.memoryPeakBytes, memoryPeakBytes)
    put(.ioReadBytes, ioReadBytes)
    put(.ioWriteBytes, ioWriteBytes)
    put(.ioReadOps, ioReadOps)
    put(.ioWriteOps, ioWriteOps)
    put(.netRxBytes, netRxBytes)
    put(.netTxBytes, netTxBytes)
    put(.pids, pids)
    put(.psiCPU, psiCPU)
    put(.psiMemory, psiMemory)
    put(.psiIO, psiIO)
    put(.gpuPercent, gpuPercent)
    put(.gpuMemoryBytes, gpuMemoryBytes)
    return line + "}\n"
  }
}
