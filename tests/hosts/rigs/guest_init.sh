#!/bin/bash
# First process of a guest of nfs.py, a user-mode Linux whose root is this machine's, read-only. What it is to be comes as
# words of the kernel's command line: rig_name, rig_address, rig_server (none: it is the server), rig_python, rig_here.
# A guest has /run, /mnt, /dev/shm, /var/tmp and /var/lib/nfs for itself; they are gone when it is.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin TMPDIR=/run HOME=/run
mount -t proc proc /proc
mount -t sysfs sys /sys
for place in /run /mnt /dev/shm /var/tmp /var/lib/nfs; do
  mkdir -p "$place"
  mount -t tmpfs tmpfs "$place"
done
for word in $(cat /proc/cmdline); do
  case $word in rig_*=*) eval "${word%%=*}='${word#*=}'" ;; esac
done
mkdir -p /mnt/lib/modules /run/rpcbind /var/lib/nfs/rpc_pipefs /var/lib/nfs/v4recovery
ln -s "/usr/lib/uml/modules/$(uname -r)" /mnt/lib/modules/
ln -sfn /proc/self/fd /dev/fd
hostname "$rig_name"
ip link set lo up
ip addr add "$rig_address/24" dev vec0
ip link set vec0 up
# Acknowledgements that wait 40 ms and resends after 200 ms are for wider networks than this one.
ip route replace "${rig_address%.*}.0/24" dev vec0 rto_min 5ms
if [ -z "$rig_server" ]; then
  modprobe -d /mnt nfsd
  mkdir -p /mnt/export
  touch /var/lib/nfs/etab /var/lib/nfs/rmtab
  mount -t ext4 /dev/ubda /mnt/export || echo "the disk cannot be mounted"
  mount -t nfsd nfsd /proc/fs/nfsd
  # A client that died holds nothing for longer than this, in seconds.
  echo 15 >/proc/fs/nfsd/nfsv4leasetime
  echo 15 >/proc/fs/nfsd/nfsv4gracetime
  rpcbind -w
  exportfs -o rw,no_root_squash,sync,no_subtree_check,fsid=0 "*:/mnt/export"
  rpc.nfsd -H "$rig_address" -N 3 -V 4.2 4
  rpc.mountd -N 3
else
  modprobe -d /mnt nfsv4
  mkdir -p /mnt/net
  for _ in $(seq 200); do
    mount.nfs "$rig_server:/" /mnt/net -o vers=4.2,hard && break
    sleep 0.3
  done 2>/run/mount-errors
  grep -q ' /mnt/net nfs4 ' /proc/mounts || cat /run/mount-errors
fi
exec "$rig_python" -S -E "$rig_here/guest.py" serve "$rig_address"
