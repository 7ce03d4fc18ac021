#compdef minimail

local -a hosts # no patterns
hosts=(${(f)"$(awk 'tolower($1) == "host" { for (i = 2; i <= NF; i++) if ($i !~ /[*?!]/) print $i }' ~/.ssh/config 2>/dev/null)"})
_arguments -S \
	'--host=[\[user@\]host to log in to]:host:($hosts)' \
	'*--forward=[what to forward]:\[BIND\:\]PORT\:TUNNEL\:FARHOST\:FARPORT: ' \
	'--protocol=[what clients speak]:protocol:(smtp tcp auto)' \
	'--ssh=[the ssh program]:program:_command_names -e' \
	'--ssh-config=[ssh'\''s -F file]:file:_files' \
	'*--ssh-option=[one more -o for ssh]:KEYWORD=VALUE: ' \
	'--idle=[close the tunnel this long after the last client]:time: ' \
	'--jitter=[plus a random time from 0 to this]:time: ' \
	'--wait=[hold a client this long while the tunnel comes up]:time: ' \
	'--drain=[when stopped, let clients finish for this long]:time: ' \
	'--max-clients=[serve so many at a time]:number: ' \
	'(-u --user)'{-u,--user=}'[whom to become once the ports are bound]:user:_users' \
	'(-p --pid-file)'{-p,--pid-file=}'[the pid file]:file:_files' \
	'(-l --log-file)'{-l,--log-file=}'[the log]:file:_files' \
	'--log-format=[how to log]:format:(text json)' \
	'--settings=[file of NAME=value lines]:file:_files' \
	'(-X --foreground)'{-X,--foreground}'[stay in the foreground, log to stderr]' \
	'--json[check, status: answer in JSON]' \
	'--nagios[check: answer in a line, as a Nagios plugin]' \
	'(-v --verbose)'{-v,--verbose}'[log more]' \
	'(- :)'{-h,--help}'[print the help]' \
	'(- :)'{-V,--version}'[print the version]' \
	':command:((start\:"start the daemon" stop\:"stop it" restart\:"start it anew, without refusing anybody" reload\:"new settings for one that runs" status\:"say whether it runs" check\:"say what is wrong with the set-up"))'
