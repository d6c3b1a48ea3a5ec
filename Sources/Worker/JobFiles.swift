import JobletModel
import LinuxKernel

/// A job's ring and the two FIFOs that wake its ends, open.
package final class JobFiles: Sendable {
  package let ring: RingMapping
  /// joblet-init → exec: there are new bytes, or a new phase.
  package let data: Fifo
  /// exec → joblet-init: there is space, or the go.
  package let space: Fifo

  /// Makes them in a job's state directory.
  package init(creating directory: JobStateDirectory, ringSize: Int, maxRecords: Int) throws(Errno) {
    ring = try RingMapping(creating: directory.ring, dataSize: ringSize, maxRecords: maxRecords)
    data = try Fifo.create(directory.dataFifo)
    space = try Fifo.create(directory.spaceFifo)
  }

  /// Opens those of a job that is there already.
  package init(opening directory: JobStateDirectory) throws {
    ring = try RingMapping(opening: directory.ring)
    data = try Fifo.open(directory.dataFifo)
    space = try Fifo.open(directory.spaceFifo)
  }
}
