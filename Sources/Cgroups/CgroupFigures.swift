import Glibc
import LinuxKernel

/// What a job's payload has used and how it fares, as far as the node's controllers tell. Nil is "not measured", never 0.
public struct CgroupFigures: Hashable, Sendable {
  /// `cpu.stat` usage_usec.
  public var cpuMicroseconds: Int64?
  public var memoryBytes: Int64?
  public var memoryPeakBytes: Int64?
  public var ioReadBytes: Int64?
  public var ioWrittenBytes: Int64?
  public var ioReads: Int64?
  public var ioWrites: Int64?
  public var pids: Int64?
  /// `some avg10` of the pressure files, in percent.
  public var cpuPressure: Double?
  public var memoryPressure: Double?
  public var ioPressure: Double?

  public init() {}
}

extension JobCgroup {
  /// Reads the payload's figures from `pay/`: what joblet-init uses is not the job's. Eight short files; blocks for
  /// microseconds.
  /// - Parameter problems: gets a sentence for each file that is there and could not be read; its figures are then nil.
  public func figures(problems: inout [String]) -> CgroupFigures {
    var figures = CgroupFigures()
    // Room for a device a line of a host with more disks than most; a longer io.stat counts as not measured.
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 16 << 10, alignment: 8)
    defer { buffer.deallocate() }
    let leaf = payLeaf
    func read<Value>(_ file: String, _ parse: (UnsafeRawBufferPointer) -> Value?) -> Value? {
      do {
        return try leaf.figure(file, buffer, parse)
      } catch {
        problems.append("\(error)")
        return nil
      }
    }
    figures.cpuMicroseconds = read("cpu.stat") { FigureText.value(of: "usage_usec", in: $0) }
    figures.memoryBytes = read("memory.current", FigureText.number)
    figures.memoryPeakBytes = read("memory.peak", FigureText.number)
    if let io = read("io.stat", FigureText.io) {
      figures.ioReadBytes = io.readBytes
      figures.ioWrittenBytes = io.writtenBytes
      figures.ioReads = io.reads
      figures.ioWrites = io.writes
    }
    figures.pids = read("pids.current", FigureText.number)
    figures.cpuPressure = read("cpu.pressure", FigureText.pressure)
    figures.memoryPressure = read("memory.pressure", FigureText.pressure)
    figures.ioPressure = read("io.pressure", FigureText.pressure)
    return figures
  }
}

extension CgroupDirectory {
  /// Reads an interface file and what `parse` finds in it. Nil if the file is absent because its controller is (or pressure
  /// is not accounted, or the cgroup has just been removed), or is longer than `buffer`.
  func figure<Value>(
    _ file: String, _ buffer: UnsafeMutableRawBufferPointer, _ parse: (UnsafeRawBufferPointer) -> Value?
  ) throws(Errno) -> Value? {
    do {
      let bytes = try FileDescriptor.open("\(path)/\(file)", O_RDONLY).read(into: buffer)
      return bytes.count < buffer.count ? parse(bytes) : nil
    } catch  where [ENOENT, ENODEV, EOPNOTSUPP].contains(error.code) {
      return nil
    }
  }
}
