#!/usr/bin/env bash
# A world of its own for a script that sources this: a directory in /tmp, our
# background processes, a minimail built from this checkout, and a provider for
# it, with an sshd and, by the script itself, a mail server that only this can
# reach. All of it is gone when the script ends.
set -eu

self=${0##*/}
if [ -z "${EPOCHREALTIME-}" ]; then
	echo "$self: bash 5 or later is needed, this is $BASH_VERSION" >&2
	exit 1
fi
root=$(readlink -f -- "${BASH_SOURCE[0]}")
root=${root%/*/*}
PATH=$PATH:/usr/sbin:/sbin:/usr/local/sbin:/usr/local/go/bin
# The log's times and ours must be of one zone, and have a decimal point.
export LC_ALL=C TZ=UTC
# Settings of a minimail that is in earnest are not for this one.
# shellcheck disable=SC2086 # these are names
unset ${!MINIMAIL_@}
umask 022

tmp=$(mktemp -d "/tmp/minimail-$self.XXXXXX")
log=$tmp/minimail.log
bad='' off=''      # what makes a failure red, and ends that
sink=''            # where the mail server is, HOST:PORT
declare -A jobs=() # our background processes: name -> pid, also of the group

# tidy may be replaced.
tidy() {
	end_minimail
	end_jobs
	rm -rf -- "$tmp"
}

# shellcheck disable=SC2329 # called by the trap
cleanup() {
	local code=$?
	trap - EXIT
	trap '' INT TERM HUP
	set +e
	cd /
	tidy
	exit "$code"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
cd "$tmp" # out of a directory that may not be ours to read

# fail REASON [FILE ...] gives the reason, the ends of the files and of the log.
fail() {
	local file
	printf '%s%s: %s%s\n' "$bad" "$self" "$1" "$off" >&2
	shift
	for file in "$@" "$log"; do
		if [ -s "$file" ]; then
			echo "--- the end of ${file##*/}:" >&2
			tail -n 15 -- "$file" >&2
		fi
	done
	exit 1
}

## Processes

# launch NAME COMMAND ... in the background, as the leader of a process group,
# so that what it starts goes with it (a compiler, say).
launch() {
	set -m
	"${@:2}" &
	jobs[$1]=$!
	set +m
}

running() { kill -0 "${jobs[$1]}" 2>/dev/null; }

# await NAME waits for the end of a job, which Ctrl-C can interrupt.
await() {
	local code=0
	wait "${jobs[$1]}" || code=$?
	unset "jobs[$1]"
	return "$code"
}

# end_job NAME returns when it has ended.
end_job() {
	disown "${jobs[$1]}" 2>/dev/null || true # or bash says that it was killed
	kill -KILL -- "-${jobs[$1]}" 2>/dev/null || true
	while running "$1"; do sleep 0.01; done
	unset "jobs[$1]"
}

end_jobs() {
	local one
	for one in "${!jobs[@]}"; do end_job "$one"; done
}

# until_seen NAME PATTERN FILE waits for a line of a background process.
until_seen() {
	for _ in {1..500}; do
		if grep -q -- "$2" "$3" 2>/dev/null; then return 0; fi
		if ! running "$1"; then return 1; fi
		sleep 0.02
	done
	return 1
}

## What has to be there

have() { [ -x "$(type -P "$1")" ]; }

# get COMMAND PACKAGE installs the package if the command is missing.
get() {
	if have "$1"; then return; fi
	if [ "$EUID" != 0 ] || ! have apt-get; then
		fail "$1 is missing: install $2 (as root: apt-get install $2)"
	fi
	echo "installing $2, for $1 is missing"
	export DEBIAN_FRONTEND=noninteractive
	if ! apt-get install -y --no-install-recommends "$2" >"$tmp/apt" 2>&1 </dev/null; then
		apt-get update >"$tmp/apt" 2>&1 </dev/null || true
		apt-get install -y --no-install-recommends "$2" >>"$tmp/apt" 2>&1 </dev/null ||
			fail "cannot install $2" "$tmp/apt"
	fi
	hash -r
	have "$1" || fail "$1 is still missing although $2 is installed"
}

get_openssh() {
	get ssh openssh-client
	get ssh-keygen openssh-client
	get sshd openssh-server
}

# build makes $tmp/minimail and $tmp/mailsink.
build() {
	have go || fail "go is missing: see https://go.dev/dl/"
	if [ ! -w "${HOME-}" ]; then # a user without a home can build all the same
		export HOME=$tmp GOFLAGS="${GOFLAGS-} -modcacherw"
	fi
	mkdir "$tmp/gotmp"
	echo "building minimail (the first time with all its libraries: a minute or so)"
	GOTMPDIR=$tmp/gotmp launch build go build -C "$root" -buildvcs=false -o "$tmp/" \
		. ./scripts/mailsink >"$tmp/build" 2>&1 </dev/null
	await build || fail "cannot build" "$tmp/build"
}

## The provider's sshd

# free_port sets $port, below those that the kernel hands out, so that it is
# also free later.
free_port() {
	for _ in {1..50}; do
		port=$((20000 + RANDOM % 12000))
		if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null &&
			! (exec 3<>"/dev/tcp/::1/$port") 2>/dev/null; then
			return
		fi
	done
	fail "no free port found"
}

# can_log_in USER: sshd lets nobody in whose account is locked or has no shell.
can_log_in() {
	local entry shell
	entry=$(getent passwd "$1") || return 1
	shell=${entry##*:}
	[ -x "${shell:-/bin/sh}" ] && [[ $(getent shadow "$1") != "$1:!"* ]]
}

# find_accounts [USER] sets $user, whom minimail becomes when it gives up root
# (USER, if that is not root, else nobody), and $login, whom ssh logs in as.
find_accounts() {
	local one
	local -a candidates
	user=$(id -un) login=''
	candidates=("$user")
	if [ "$EUID" = 0 ]; then
		user=nobody
		if [ -n "${1-}" ] && [ "$(id -u "$1" 2>/dev/null || echo 0)" != 0 ]; then user=$1; fi
		candidates=("$user" nobody daemon bin)
	fi
	for one in "${candidates[@]}"; do
		if [ -z "$login" ] && can_log_in "$one"; then login=$one; fi
	done
	[ -n "$login" ] || fail "there is no account to log in to; these are locked or have no shell: ${candidates[*]}"
}

# write_sshd_config: of an sshd at $sshd_port that forwards to $sink only.
write_sshd_config() {
	cat >"$tmp/sshd_config" <<-END
		ListenAddress 127.0.0.1
		Port $sshd_port
		HostKey $tmp/hostkey
		AuthorizedKeysFile $tmp/authorized_keys
		StrictModes no
		UsePAM no
		PidFile none
		AllowUsers $login
		PasswordAuthentication no
		KbdInteractiveAuthentication no
		ForceCommand /bin/false
		AllowTcpForwarding local
		PermitOpen $sink
	END
	# From 9.8 on sshd shuts those out whose sessions crash, which we make them do.
	if "$(type -P sshd)" -t -f "$tmp/sshd_config" -o PerSourcePenalties=no 2>/dev/null; then
		echo 'PerSourcePenalties no' >>"$tmp/sshd_config"
	fi
}

# start_sshd at $sshd_port; fails if that is taken.
start_sshd() {
	launch sshd "$(type -P sshd)" -D -e -f "$tmp/sshd_config" >"$tmp/sshd.log" 2>&1 </dev/null
	disown "${jobs[sshd]}"
	until_seen sshd 'Server listening' "$tmp/sshd.log"
}

# start_host: an sshd with keys of its own, at a port of its own.
start_host() {
	ssh-keygen -q -t ed25519 -N '' -C "$self" -f "$tmp/key"
	ssh-keygen -q -t ed25519 -N '' -C "$self" -f "$tmp/hostkey"
	echo "restrict,port-forwarding $(cat "$tmp/key.pub")" >"$tmp/authorized_keys"
	if [ "$EUID" = 0 ]; then
		chmod 711 "$tmp"
		chown "$user" "$tmp/key"
		mkdir -p /run/sshd
	fi
	for _ in 1 2 3 4 5; do
		free_port
		sshd_port=$port
		write_sshd_config
		if start_sshd; then return; fi
		end_job sshd
	done
	fail "sshd does not start" "$tmp/sshd.log"
}

## minimail

write_ssh_config() {
	echo "provider $(cat "$tmp/hostkey.pub")" >"$tmp/known_hosts"
	cat >"$tmp/ssh_config" <<-END
		Host provider
		  HostName 127.0.0.1
		  Port $sshd_port
		  User $login
		  HostKeyAlias provider
		  UserKnownHostsFile $tmp/known_hosts
		  GlobalKnownHostsFile none
		  StrictHostKeyChecking yes
		  IdentityFile $tmp/key
		  IdentitiesOnly yes
		  IdentityAgent none
	END
}

# try_start [OPTION ...] at $port, with the near end $near. Nothing must
# interrupt it halfway: its daemon would stay.
try_start() {
	(
		trap '' INT TERM HUP
		exec "$tmp/minimail" start --settings /dev/null --user "$user" \
			--host provider --ssh-config "$tmp/ssh_config" --forward "$port:$near:$sink" \
			--pid-file "$tmp/pid" --log-file "$log" --log-format json "$@"
	) >"$tmp/start" 2>&1 </dev/null
}

# start_minimail [OPTION ...] at free ports.
start_minimail() {
	for _ in 1 2 3 4 5; do
		free_port
		near=$port
		free_port
		if [ "$port" != "$near" ] && try_start "$@"; then return; fi
	done
	fail "minimail does not start" "$tmp/start"
}

stop_minimail() { "$tmp/minimail" stop --settings /dev/null --pid-file "$tmp/pid" 2>&1; }

# end_minimail, if one has been started: by force, if it has to be.
end_minimail() {
	local pid
	if [ ! -s "$tmp/pid" ]; then return; fi
	read -r pid <"$tmp/pid"
	stop_minimail >/dev/null || kill -KILL "$pid" 2>/dev/null
}
