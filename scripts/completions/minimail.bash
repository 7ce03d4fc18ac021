# bash completion for minimail

# The Hosts of ssh_config that are no patterns.
_minimail_hosts() {
	awk 'tolower($1) == "host" { for (i = 2; i <= NF; i++) if ($i !~ /[*?!]/) print $i }' ~/.ssh/config 2>/dev/null
}

_minimail() {
	local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} seen
	COMPREPLY=()
	case $word,$before in # of --host=HOST, each of the three is a word
	=,*) word='' ;;
	*,=) before=${COMP_WORDS[COMP_CWORD - 2]} ;;
	esac
	case $before in
	--host)
		mapfile -t COMPREPLY < <(compgen -W "$(_minimail_hosts)" -- "$word")
		;;
	--user | -u)
		mapfile -t COMPREPLY < <(compgen -u -- "$word")
		;;
	--protocol)
		mapfile -t COMPREPLY < <(compgen -W "smtp tcp auto" -- "$word")
		;;
	--log-format)
		mapfile -t COMPREPLY < <(compgen -W "text json" -- "$word")
		;;
	--ssh)
		mapfile -t COMPREPLY < <(compgen -c -- "$word")
		;;
	--ssh-config | --pid-file | -p | --log-file | -l | --settings)
		compopt -o filenames 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -f -- "$word")
		;;
	--forward | --ssh-option | --idle | --jitter | --wait | --drain | --max-clients) ;;
	*)
		case $word in
		-*)
			mapfile -t COMPREPLY < <(compgen -W "--host --forward --protocol --ssh --ssh-config --ssh-option
				--idle --jitter --wait --drain --max-clients --user --pid-file --log-file --log-format
				--settings --foreground --json --nagios --verbose --help --version -u -p -l -X -v -h -V" -- "$word")
			;;
		*)
			for seen in "${COMP_WORDS[@]:1:COMP_CWORD - 1}"; do
				case $seen in start | stop | restart | reload | status | check) return ;; esac
			done
			mapfile -t COMPREPLY < <(compgen -W "start stop restart reload status check" -- "$word")
			;;
		esac
		;;
	esac
}
complete -F _minimail minimail
