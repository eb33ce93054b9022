#!/bin/bash
# Makes icmp-reject-{client,router}.pcap.gz in the folder given: client — router — server in network namespaces; after one request
# over IPv4 and IPv6 each, the router's nftables reject the connections, a new one, and one host is not there. Needs root, nftables, tcpdump.
set -e
cd "$1"
for n in icA icR icB; do ip netns del $n 2> /dev/null || true; ip netns add $n; done
ip link add iA netns icA type veth peer name rA netns icR
ip link add iB netns icB type veth peer name rB netns icR
ip -n icA addr add 10.77.1.2/24 dev iA; ip -n icA addr add fd77:1::2/64 dev iA nodad
ip -n icR addr add 10.77.1.1/24 dev rA; ip -n icR addr add fd77:1::1/64 dev rA nodad
ip -n icR addr add 10.77.2.1/24 dev rB; ip -n icR addr add fd77:2::1/64 dev rB nodad
ip -n icB addr add 10.77.2.2/24 dev iB; ip -n icB addr add fd77:2::2/64 dev iB nodad
for n in icA icR icB; do ip -n $n link set lo up; done
ip -n icA link set iA up; ip -n icR link set rA up; ip -n icR link set rB up; ip -n icB link set iB up
ip -n icA route add default via 10.77.1.1; ip -n icA -6 route add default via fd77:1::1
ip -n icB route add default via 10.77.2.1; ip -n icB -6 route add default via fd77:2::1
ip netns exec icR sysctl -wq net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
sleep 1
ip netns exec icB python3 -c "
import socket,threading,time
def serve(f,a):
    s=socket.socket(f); s.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1); s.bind((a,7000)); s.listen()
    def one(c):
        while d:=c.recv(99): c.send(d)
    while 1:
        c,_=s.accept(); threading.Thread(target=one,args=(c,),daemon=True).start()
threading.Thread(target=serve,args=(socket.AF_INET,'0.0.0.0'),daemon=True).start()
threading.Thread(target=serve,args=(socket.AF_INET6,'fd77:2::2'),daemon=True).start()
time.sleep(30)" & S=$!
ip netns exec icA tcpdump -i iA -s 118 -U -w client.pcap 'tcp or icmp or (icmp6 and ip6[40] < 128)' 2>/dev/null & T=$!
ip netns exec icR tcpdump -i any -s 118 -U -w router.pcap 'tcp or icmp or (icmp6 and ip6[40] < 128)' 2>/dev/null & T2=$!
sleep 1
ip netns exec icA python3 -c "
import socket,time,subprocess
def nft(*a): subprocess.run(['ip','netns','exec','icR','nft',*a],check=True)
a=socket.create_connection(('10.77.2.2',7000)); a.send(b'hello'); a.recv(9)
b=socket.create_connection(('fd77:2::2',7000)); b.send(b'hello'); b.recv(9)
nft('add','table','inet','t'); nft('add','chain','inet','t','f','{ type filter hook forward priority 0; }')
nft('add','rule','inet','t','f','ip','daddr','10.77.2.2','tcp','dport','7000','reject','with','icmp','type','host-unreachable')
nft('add','rule','inet','t','f','ip6','daddr','fd77:2::2','tcp','dport','7000','reject','with','icmpv6','type','admin-prohibited')
time.sleep(.2)
a.send(b'again'); b.send(b'again'); time.sleep(2)
c=socket.socket(); c.settimeout(4)
try: c.connect(('10.77.2.2',7000))
except OSError as e: print(e)
d=socket.socket(); d.settimeout(4)
try: d.connect(('10.77.2.99',7000))
except OSError as e: print(e)
"
sleep 1
kill $T $T2 $S; wait || true
for n in icA icR icB; do ip netns del $n; done
for n in client router; do gzip -9n < $n.pcap > icmp-reject-$n.pcap.gz; rm $n.pcap; done
